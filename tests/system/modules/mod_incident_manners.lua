-- mod_incident_manners: a server that announces XEP-0268 and answers all four kinds as it is told to.
-- POST /manners   "result", "silence", or the condition of an error of type wait, in the body; `result` at the start
-- For tests only.
local st = require "util.stanza";

local xmlns = "urn:xmpp:incident:2";
local manner = "result";

local function answer(event)
	local origin, stanza = event.origin, event.stanza;
	if manner == "result" then
		origin.send(st.reply(stanza));
	elseif manner ~= "silence" then
		origin.send(st.error_reply(stanza, "wait", manner));
	end
	return true;
end

for _, kind in ipairs({ "report", "inquiry", "request", "response" }) do
	module:hook("iq/host/" .. xmlns .. ":" .. kind, answer);
end

module:add_feature(xmlns);

module:depends("http");
module:provides("http", {
	default_path = "/manners";
	route = {
		["POST"] = function (event)
			manner = event.request.body;
			return 204;
		end;
	};
});
