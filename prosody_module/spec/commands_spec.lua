local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local json = require "util.json";
local set = require "util.set";
local webhook = support.library "webhook";
local kind_types = support.library("relay").kind_types;

local now = 1795302600;
local key = ("k"):rep(32);
local report = "<report xmlns='urn:xmpp:incident:2'/>";
local disco_info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";

local function new_world(problem)
	local world = { sent = {}, counted = {}, logged = {}, answered = {}, ids = 0, time = now };
	world.commands = support.library("commands").new {
		host = "a.test", keys = { key }, webhook = webhook, recorded = webhook.new_recorded(100, 600), kind_types = kind_types;
		problem = problem;
		is_allowed = function (ip) return ip == "127.0.0.1"; end;
		clock = function () return world.time; end;
		is_local_domain = function (domain) return domain == "a.test" or domain == "muc.a.test"; end;
		claim_reply = function (to, id) return not world.answered[to .. " " .. id]; end;
		send = function (stanza) table.insert(world.sent, stanza); end;
		describe = function () return { host = "a.test" }; end;
		count = function (type, outcome) table.insert(world.counted, type .. " " .. outcome); end;
		log = function (level, text, ...) table.insert(world.logged, level .. ": " .. text:format(...)); end;
	};
	return world;
end

local function post_body(world, body, changes)
	world.ids = world.ids + 1;
	local id = changes and changes.id or "id-" .. world.ids;
	local timestamp = tostring(world.time);
	local answer = world.commands:handle {
		ip = changes and changes.ip or "127.0.0.1";
		body = body;
		headers = {
			webhook_id = id, webhook_timestamp = timestamp;
			webhook_signature = webhook.sign(changes and changes.key or key, id, timestamp, body);
		};
	};
	return answer.status_code, json.decode(answer.body), answer.body;
end

local function post(world, type, data, changes)
	return post_body(world, json.encode { type = type, timestamp = "2026-11-21T22:50:00Z", data = data }, changes);
end

local function send(world, stanza)
	local status, content = post(world, "stanza.send", { host = "a.test", stanzas = { stanza } });
	assert.equal(200, status);
	return content.results[1];
end

local function refusal_of(stanza)
	local world = new_world();
	local result = send(world, stanza);
	assert.same({}, world.sent);
	return result.error;
end

describe("stanza.send", function ()
	it("sends a result, from the host whatever it says", function ()
		local world = new_world();
		assert.same({}, send(world, "<iq type='result' id='r1' to='b.test' from='bank.example'/>"));
		assert.equal("a.test", world.sent[1].attr.from);
		assert.equal("b.test", world.sent[1].attr.to);
		assert.equal("r1", world.sent[1].attr.id);
	end);

	it("sends an error, and a disco#info result", function ()
		local world = new_world();
		send(world, "<iq xmlns='jabber:client' type='error' id='r1' to='b.test'><error type='cancel'>"
			.. "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");
		send(world, "<iq type='result' id='r2' to='user@b.test/phone'>" .. disco_info .. "</iq>");
		assert.equal("cancel item-not-found", table.concat({ world.sent[1]:get_error() }, " ", 1, 2));
		assert.is_nil(tostring(world.sent[1]):find("jabber:client", 1, true));
		assert.equal(2, #world.sent);
	end);

	it("sends the four interactions and disco#info, to the bare domain of another server", function ()
		local world = new_world();
		for kind, type in pairs(kind_types) do
			local payload = ("<%s xmlns='urn:xmpp:incident:2'/>"):format(kind);
			assert.same({}, send(world, ("<iq type='%s' id='ib-1' to='b.test'>%s</iq>"):format(type, payload)));
		end
		assert.same({}, send(world, "<iq type='get' id='ib-2' to='b.test'>" .. disco_info .. "</iq>"));
	end);

	it("refuses everything else, and says why", function ()
		local to_b = " id='ib-1' to='b.test'>";
		local wrong = {
			"", "<iq", "<message to='b.test' id='x'/>", "<iq xmlns='x' type='result' id='x' to='b.test'/>", "<!DOCTYPE x><iq/>";
			"<iq type='result' id='x'/>", "<iq type='result' id='x' to='@'/>", "<iq type='result' to='b.test'/>";
			"<iq type='result' to='b.test' id='" .. ("x"):rep(257) .. "'/>", "<iq type='x'" .. to_b .. "</iq>", "<iq" .. to_b .. "</iq>";
			"<iq type='result'" .. to_b .. report .. "</iq>", "<iq type='error'" .. to_b .. "</iq>";
			"<iq type='error'" .. to_b .. "<error/><error/></iq>", "<iq type='error'" .. to_b .. report .. "</iq>";
			"<iq type='set' id='ib-1' to='user@b.test'>" .. report .. "</iq>";
			"<iq type='set' id='ib-1' to='b.test/x'>" .. report .. "</iq>";
			"<iq type='set' id='ib-1' to='a.test'>" .. report .. "</iq>";
			"<iq type='set' id='ib-1' to='muc.a.test'>" .. report .. "</iq>";
			"<iq type='set' id='x' to='b.test'>" .. report .. "</iq>", "<iq type='get'" .. to_b .. report .. "</iq>";
			"<iq type='set'" .. to_b .. report .. report .. "</iq>", "<iq type='set'" .. to_b .. "</iq>";
			"<iq type='set'" .. to_b .. disco_info .. "</iq>";
			"<iq type='set'" .. to_b .. "<query xmlns='jabber:iq:roster'/></iq>", "<iq type='set'" .. to_b .. "<report/></iq>";
		};
		for _, stanza in ipairs(wrong) do
			assert.is_string(refusal_of(stanza), stanza);
		end
	end);

	it("drops a reply to what the module answered itself", function ()
		local world = new_world();
		world.answered["b.test r1"] = true;
		assert.same({ dropped = "already-answered" }, send(world, "<iq type='result' id='r1' to='B.test'/>"));
		assert.same({}, world.sent);
	end);

	it("answers for each stanza, and one bad one spoils nothing", function ()
		local world = new_world();
		local good = "<iq type='result' id='r1' to='b.test'/>";
		local _, content = post(world, "stanza.send", { host = "a.test", stanzas = { good, "<iq", good } });
		assert.same({ {}, {} }, { content.results[1], content.results[3] });
		assert.is_string(content.results[2].error);
		assert.equal(2, #world.sent);
	end);

	it("takes 1 to 64 stanzas", function ()
		local many = {};
		for i = 1, 65 do many[i] = "<iq type='result' id='r1' to='b.test'/>"; end
		for _, stanzas in ipairs { {}, many, "x", 5 } do
			assert.equal(400, (post(new_world(), "stanza.send", { host = "a.test", stanzas = stanzas })));
		end
	end);
end);

describe("a command", function ()
	it("is for this host, of a known type, and has data", function ()
		local world = new_world();
		assert.equal(200, (post(world, "host.describe", { host = "a.test" })));
		assert.equal(400, (post(world, "host.describe", { host = "b.test" })));
		assert.equal(400, (post(world, "host.describe", {})));
		assert.equal(400, (post(world, "host.describe", nil)));
		assert.equal(400, (post(world, "account.suspend", { host = "a.test" })));
		assert.equal(400, (post(world, { "x" }, { host = "a.test" })));
		for _, body in ipairs { "", "5", "null", "[", "{}" } do
			assert.equal(400, (post_body(world, body)));
		end
	end);

	it("with an id seen before gets the recorded answer and does nothing, for ten minutes", function ()
		local world = new_world();
		local data = { host = "a.test", stanzas = { "<iq type='result' id='r1' to='b.test'/>" } };
		local _, _, first = post(world, "stanza.send", data, { id = "same" });
		world.time = now + 600;
		local status, _, second = post(world, "stanza.send", data, { id = "same" });
		assert.equal(200, status);
		assert.equal(first, second);
		assert.equal(1, #world.sent);
		world.time = now + 601;
		post(world, "stanza.send", data, { id = "same" });
		assert.equal(2, #world.sent);
	end);

	it("that was refused may be repeated with the same id", function ()
		local world = new_world();
		assert.equal(400, (post(world, "x", { host = "a.test" }, { id = "same" })));
		assert.equal(200, (post(world, "host.describe", { host = "a.test" }, { id = "same" })));
	end);

	it("must be signed, and a repeated id is no way around", function ()
		local world = new_world();
		post(world, "host.describe", { host = "a.test" }, { id = "same" });
		local status, content = post(world, "host.describe", { host = "a.test" }, { id = "same", key = ("o"):rep(32) });
		assert.equal(401, status);
		assert.same({ error = "signature does not match" }, content);
		assert.truthy(world.logged[1]:find("incident_bridge_secret", 1, true));
	end);

	it("comes from an allowed address", function ()
		local world = new_world();
		assert.equal(403, (post(world, "host.describe", { host = "a.test" }, { ip = "192.0.2.1" })));
		assert.truthy(world.logged[1]:find("incident_bridge_allow", 1, true));
	end);

	it("is refused while the configuration is wrong", function ()
		assert.equal(503, (post(new_world("no secret"), "host.describe", { host = "a.test" })));
	end);
end);

describe("host.describe", function ()
	it("tells versions, admins, capabilities and the host's own rooms", function ()
		local muc = { modules = { muc = {} } };
		local hosts = {
			["a.test"] = { modules = {} }, ["muc.a.test"] = muc, ["rooms.example"] = muc, ["muc.b.test"] = muc, ["xa.test"] = muc;
		};
		local about = support.library("host").describe {
			host = "a.test", hosts = hosts, prosody_version = "13.0.1";
			admins = set.new { "b@a.test", "a@a.test" }, muc = set.new { "rooms.example" };
		};
		assert.same({ "a@a.test", "b@a.test" }, { about.admins[1], about.admins[2] });
		assert.equal('["muc.a.test","rooms.example"]', json.encode(about.muc));
		assert.equal('["stanza.send","host.describe"]', json.encode(about.capabilities));
		assert.equal("null", tostring(about.mitigations));
		assert.equal("13.0.1", about.prosody_version);
	end);
end);
