-- What meets bytes of strangers, or of somebody who stands in for the bridge, survives whatever comes. Seeded: a
-- failure comes again.

local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local json = require "util.json";
local st = require "util.stanza";
local xml = require "util.xml";
local kind_types = support.library("relay").kind_types;
local contacts = support.library "contacts";
local mitigations = support.library "mitigations";
local notice = support.library "notice";
local new_feeds = support.library("feeds").new;
local settings = support.library "settings";
local stream = support.library "stream";
local webhook = support.library "webhook";

local rounds = 400;
local now = 1795302600;
local key = ("k"):rep(32);
local tokens = {
	"", "\0", "\255", "\237\160\128", "\192\175", "\226\128\174", "\r\n", "%", "'", '"', "<", "&#0;", "]]>";
	"<!DOCTYPE a>", "[", "{", "]", "}", ":", ",", "null", "-1", "1e999", ("9"):rep(400), ("["):rep(300), '"\\ud800"', '{"a":';
	"v1,", "@", "/", ".", "%s%d";
	" xmlns='jabber:client'", "<error xmlns='jabber:client'/>", "ib-", "b.test", "a.test", "..", "::1";
	"0/0", "/33", ("x"):rep(3000);
};

-- The same for the same number of the round, in every Lua.
local function new_dice(seed)
	local state = seed * 7919 + 12345;
	return function (most)
		state = (state * 1103515245 + 12345) % 2147483648;
		return math.floor(state / 65536) % most + 1;
	end;
end

local function mutate(text, dice)
	for _ = 1, dice(6) - 1 do
		local from = dice(#text + 1);
		local to = math.min(#text, from + dice(20) - 2);
		local piece = dice(3) == 1 and text:sub(from, to):rep(dice(3)) or tokens[dice(#tokens)];
		text = (text:sub(1, from - 1) .. piece .. text:sub(to + 1)):sub(1, 100000);
	end
	return text;
end

-- Calls `try` with mutations of the seeds, and says which one it did not survive.
local function survive(seeds, try)
	for round = 1, rounds do
		local dice = new_dice(round);
		local text = mutate(seeds[dice(#seeds)], dice);
		local ok, why = xpcall(try, debug.traceback, text, dice);
		if not ok then error(("round %d: %q: %s"):format(round, text, tostring(why)), 0); end
	end
end

describe("whatever comes", function ()
	it("as an answer of the bridge, each of a batch gets one answer or none is left out", function ()
		local seeds = {
			'{"results":[{},{"stanza_error":{"type":"wait","condition":"resource-constraint","text":"later"}}],"refuse":{"b.test":3}}';
			'{"results":[{"interaction":"abc"},{}],"refuse":{}}', '{"error":"signature does not match","now":1795302600}';
		};
		survive(seeds, function (text, dice)
			local world = support.new_world();
			world:report "first";
			world:answer(200);
			world:report "one";
			world:report "two";
			world.relay:pump();
			world.requests[#world.requests].callback(({ 200, 0, 401, 404, 500 })[dice(5)], text);
			world:pass(10);
			world:report "three";
			for _, stanza in ipairs(world.sent) do
				assert.truthy(xml.parse(tostring(stanza)), "what is sent is XML");
			end
		end);
	end);

	it("as a signed command, an answer with a status and JSON comes back", function ()
		local report = "<iq type='set' to='b.test' id='ib-1'><report xmlns='urn:xmpp:incident:2'/></iq>";
		local chat = "<message to='x@b.test' id='ib-report-1'><report xmlns='urn:xmpp:reporting:1'"
			.. " reason='urn:xmpp:reporting:spam'><jid xmlns='urn:xmpp:jid:0'>y@b.test</jid><text>seen</text></report></message>";
		local seeds = {
			json.encode { type = "stanza.send", data = { host = "a.test", stanzas = { report } } };
			json.encode { type = "stanza.send", data = { host = "a.test", stanzas = { chat } } };
			json.encode { type = "operator.notify", data = { host = "a.test", text = "x", to = { "admin@a.test" } } };
			json.encode { type = "impact.preview", data = { host = "a.test", room = "x@muc.a.test", jid = "b.test" } };
			json.encode { type = "domain.block", data = { host = "a.test", mitigation = "m", revision = 1, domain = "b.test" } };
			json.encode { type = "list.read", data = { host = "a.test", service = "b.test", node = "list", known = "x" } };
		};
		local sent = {};
		local function read_list(_, data)
			return new_feeds({
				host = "a.test", is_local_domain = function () return false; end, now = function () return now; end;
				new_id = function () return "n"; end, ask = function (iq) sent[#sent + 1] = iq; end;
			}):read(data);
		end
		local commands = support.library("commands").new {
			host = "a.test", keys = { key }, webhook = webhook, notice = notice, kind_types = kind_types;
			recorded = webhook.new_recorded(10, 600), contacts = contacts.new(), check_chat = contacts.check;
			is_allowed = function () return true; end;
			clock = function () return now; end;
			is_local_domain = function (domain) return domain == "a.test"; end;
			claim_reply = function () return true; end;
			send = function (stanza) sent[#sent + 1] = stanza; return true; end;
			new_id = function () return "n"; end;
			admins = function () return { "admin@a.test" }; end;
			feeds = { read = read_list };
			preview = function (data)
				local target, why = mitigations.read_target(data);
				if not target then return nil, why; end
				return { exists = true };
			end;
			mitigator = { apply = function (_, type, data)
				local command, why = mitigations.read_command(type, data);
				if not command then return nil, why, 400; end
				return { mitigation = command.id };
			end };
			count = function () end, log = function (_, text, ...) return text:format(...); end;
		};
		local number = 0;
		survive(seeds, function (text)
			number = number + 1;
			local id, timestamp = "id-" .. number, tostring(now);
			local answer = commands:handle {
				ip = "127.0.0.1", body = text;
				headers = {
					webhook_id = id, webhook_timestamp = timestamp;
					webhook_signature = webhook.sign(key, id, timestamp, text);
				};
			};
			assert.truthy(answer.status_code == 200 or answer.status_code == 400);
			assert.truthy(json.decode(answer.body));
		end);
		for _, stanza in ipairs(sent) do
			assert.equal("a.test", stanza.attr.from);
			assert.truthy(xml.parse(tostring(stanza)));
		end
	end);

	it("as what a service tells of its list, the answer to the bridge is JSON that the bridge reads", function ()
		local pubsub = "http://jabber.org/protocol/pubsub";
		local seeds = {
			("<iq type='result'><pubsub xmlns='%s'><items node='list'><item id='x.test'/></items></pubsub></iq>"):format(pubsub);
			"<iq type='error'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
			("<message><event xmlns='%s#event'><items node='list'><item id='y'/><retract id='x.test'/></items></event></message>")
				:format(pubsub);
			("<message><event xmlns='%s#event'><purge node='list'/><delete node='list'/></event></message>"):format(pubsub);
		};
		survive(seeds, function (text)
			local ok, stanza = pcall(xml.parse, text);
			if not ok or not stanza then return; end
			local asked = {};
			local feeds = new_feeds {
				host = "a.test", is_local_domain = function () return false; end, now = function () return now; end;
				new_id = function () return "n"; end, ask = function (_, _, callback) asked[#asked + 1] = callback; end;
			};
			local wanted = { service = "b.test", node = "list" };
			feeds:read(wanted);
			asked[1](stanza);
			asked[2](stanza.name == "iq" and stanza or xml.parse(seeds[1]));
			stanza.attr.from, stanza.attr.to = "b.test", "a.test/incident-bridge";
			feeds:hear { stanza = stanza };
			local answer, why = feeds:read(wanted);
			assert.truthy(answer and json.decode(json.encode(answer)).state == "ready" or why:find("^b%.test "));
		end);
	end);

	it("as the headers of a command, it is not taken for signed", function ()
		survive({ "id-1 1795302600 v1,AAAA", "id-1 1795302600 v1a,AAAA v1,QUJD" }, function (text)
			local id, timestamp, signature = text:match("^(%S*) ?(%S*) ?(.*)$");
			local headers = { webhook_id = id, webhook_timestamp = timestamp, webhook_signature = signature };
			local ok, status = webhook.verify({ key }, headers, text, now);
			assert.is_nil(ok);
			assert.truthy(status == 400 or status == 401);
		end);
	end);

	it("as a secret, an address or a network, it is one or is refused in words", function ()
		survive({ "whsec_" .. ("QUJD"):rep(8), "http://127.0.0.1:8267", "192.0.2.0/24", "::1" }, function (text)
			local made, why = webhook.read_secret(text);
			assert.truthy(made or why);
			made, why = settings.read_url(text, "a.test", false);
			assert.truthy(made or why);
			local is_allowed;
			is_allowed, why = settings.read_allow { text };
			assert.truthy(is_allowed and is_allowed("192.0.2.1") ~= nil or why);
		end);
	end);

	it("as a stanza, its stream is described, and a wrong one gets its error", function ()
		local seeds = {
			"<iq type='set' from='b.test' to='a.test' id='1'><report xmlns='urn:xmpp:incident:2'/></iq>";
			"<iq type='error' from='b.test' to='a.test' id='ib-1'><error type='wait'><gone xmlns='urn:x'/></error></iq>";
		};
		survive(seeds, function (text, dice)
			local ok, stanza = pcall(xml.parse, text);
			if not ok or not stanza or stanza.name ~= "iq" or not stanza.attr.from or not stanza.attr.to then return; end
			local kinds = { "report", "inquiry", "request", "response", "result", "error" };
			local origin = { type = "s2sin", direction = "incoming", secure = dice(2) == 1, from_host = stanza.attr.from };
			local facts = stream.describe(origin, stanza, { mechanisms = {} }, function () return false; end);
			assert.truthy(json.encode(facts));
			local type = stanza.attr.type;
			if not ({ get = true, set = true, result = true, error = true })[type] then return; end
			if (type == "result" or type == "error") and not stanza.attr.id then return; end
			local world = support.new_world();
			world.relay:receive(stanza, kinds[dice(#kinds)], facts, "b.test");
			world:pass(10);
			for _, sent in ipairs(world.sent) do assert.truthy(st.is_stanza(sent)); end
		end);
	end);
end);
