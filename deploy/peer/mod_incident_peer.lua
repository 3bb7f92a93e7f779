-- mod_incident_peer: plays the other server in the demo and in the tests.
-- POST /peer/send       sends the IQ in the body (from this host or one of its users) and answers with the reply;
--                       ?timeout=SECONDS (default 60), then 504; ?wait=no answers 202 at once
-- GET /peer/received    everything that arrived for this host and its users, in order, late replies among it
-- Never load it on a real server: whoever reaches the route speaks with this server's voice.
local xml = require "util.xml";
local json = require "util.json";
local array = require "util.array";
local jid = require "util.jid";
local now = require "util.time".now;
local formdecode = require "util.http".formdecode;

local waiting = {}; -- address and id of an IQ sent -> functions that want its reply, oldest first
local received = array();

local function key_of(address, id)
	return address .. "\0" .. id;
end

local function arrived(event)
	local stanza = event.stanza;
	received:push({ at = now(); stanza = tostring(stanza) });
	if stanza.attr.type ~= "result" and stanza.attr.type ~= "error" then return; end
	local key = key_of(stanza.attr.to or module.host, stanza.attr.id or "");
	local answer = waiting[key] and table.remove(waiting[key], 1);
	if not answer then return; end
	if #waiting[key] == 0 then waiting[key] = nil; end
	answer(tostring(stanza));
	return true;
end

for _, name in ipairs({ "iq/host"; "iq/bare"; "iq/full" }) do
	module:hook(name, arrived, 1000);
end

local function forget(key, answer)
	local list = waiting[key] or {};
	for i, other in ipairs(list) do
		if other == answer then table.remove(list, i); end
	end
	if #list == 0 then waiting[key] = nil; end
end

local function respond(response, status, body)
	if response.finished then return; end
	response.status_code = status;
	response:send(body);
end

local function send(event)
	local request, response = event.request, event.response;
	local query = request.url.query and formdecode(request.url.query) or {};
	local stanza, problem = xml.parse(request.body);
	if not stanza or stanza.name ~= "iq" or not stanza.attr.from or not stanza.attr.to then
		return { status_code = 400; body = tostring(problem or "an IQ with from and to is expected") };
	end
	if jid.host(stanza.attr.from) ~= module.host then
		return { status_code = 400; body = "from must be " .. module.host .. " or an address there" };
	end
	stanza.attr.xmlns = nil;
	if query.wait == "no" then
		module:send(stanza);
		return 202;
	end
	local key = key_of(stanza.attr.from, stanza.attr.id or "");
	local function answer(text) respond(response, 200, text); end
	waiting[key] = waiting[key] or {};
	table.insert(waiting[key], answer);
	module:add_timer(tonumber(query.timeout) or 60, function ()
		forget(key, answer);
		respond(response, 504, "no reply");
	end);
	module:send(stanza);
	return true;
end

module:depends("http");
module:provides("http", {
	default_path = "/peer";
	route = {
		["POST /send"] = send;
		["GET /received"] = function () return json.encode(received); end;
	};
});
