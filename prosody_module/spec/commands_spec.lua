local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local json = require "util.json";
local set = require "util.set";
local st = require "util.stanza";
local notice = support.library "notice";
local webhook = support.library "webhook";
local kind_types = support.library("relay").kind_types;

local now = 1795302600;
local key = ("k"):rep(32);
local report = "<report xmlns='urn:xmpp:incident:2'/>";
local disco_info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";

local function new_world(problem)
	local world = { sent = {}, counted = {}, logged = {}, answered = {}, admins = {}, ids = 0, time = now };
	world.contacts = support.library("contacts").new();
	world.commands = support.library("commands").new {
		host = "a.test", keys = { key }, webhook = webhook, notice = notice, kind_types = kind_types;
		contacts = world.contacts, check_chat = support.library("contacts").check;
		recorded = webhook.new_recorded(100, 600);
		problem = problem;
		is_allowed = function (ip) return ip == "127.0.0.1"; end;
		clock = function () return world.time; end;
		is_local_domain = function (domain) return domain == "a.test" or domain == "muc.a.test"; end;
		claim_reply = function (to, id) return not world.answered[to .. " " .. id]; end;
		send = function (stanza)
			if stanza.attr.to == world.broken then return false; end
			table.insert(world.sent, stanza);
			return true;
		end;
		new_id = function () return "new-" .. #world.sent + 1; end;
		admins = function () return world.admins; end;
		user_exists = function (username) return username ~= "nobody"; end;
		describe = function () return { host = "a.test" }; end;
		preview = function (data) return { exists = data.account == "x@a.test" }; end;
		feeds = {
			read = function (_, data)
				if data.node == "long" then
					world.read = (world.read or 0) + 1;
					return { state = "ready", names = { ("x"):rep(20000) } };
				end
				if data.node == "gone" then return nil, "b.test says that the node gone is gone", 409; end
				return { state = "loading" };
			end;
			forget = function () return {}; end;
		};
		mitigator = {
			apply = function (_, type, data)
				if data.account == "gone@a.test" then return nil, "no such account", 404; end
				if type == "domain.block" then return nil, "refused", 409; end
				return { mitigation = data.mitigation };
			end;
			lift = function () return nil, "stored nowhere", 503; end;
			list = function () return { mitigations = {} }; end;
		};
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

	it("sends chat text to a user of another server", function ()
		local world = new_world();
		assert.same({}, send(world, "<message type='chat' id='ib-3' to='abuse@b.test'><body>hello</body></message>"));
		assert.equal("hello", world.sent[1]:get_child_text("body"));
		assert.is_string(send(world, "<message type='chat' id='ib-3' to='user@a.test'><body>hello</body></message>").error);
	end);

	it("sends a report beside it, and what is answered without a thread still answers the text", function ()
		local world = new_world();
		send(world, "<message type='chat' id='ib-3' to='abuse@b.test'><body>hello</body></message>");
		assert.same({}, send(world, "<message id='ib-report-3-1' to='Abuse@b.test'>"
			.. "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'>"
			.. "<jid xmlns='urn:xmpp:jid:0'>x@b.test</jid><text>seen here</text></report></message>"));
		assert.equal("abuse@b.test", world.sent[2].attr.to);
		local answer = st.message({ type = "chat", from = "abuse@b.test/phone", to = "a.test" }, "done");
		assert.equal("ib-3", world.contacts:read(answer):get_child_text("thread"));
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

	it("says so if sending fails, and goes on with the rest", function ()
		local world = new_world();
		world.broken = "c.test";
		local to_b, to_c = "<iq type='result' id='r1' to='b.test'/>", "<iq type='result' id='r1' to='c.test'/>";
		local _, content = post(world, "stanza.send", { host = "a.test", stanzas = { to_c, to_b } });
		assert.same({ { error = "not sent" }, {} }, { content.results[1], content.results[2] });
		assert.equal("b.test", world.sent[1].attr.to);
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

describe("operator.notify", function ()
	local function notify(world, text, to)
		local status, content, body = post(world, "operator.notify", { host = "a.test", text = text, to = to });
		return status, content, body;
	end

	local function list_sent(world)
		local list = {};
		for i, stanza in ipairs(world.sent) do list[i] = stanza.attr.to; end
		return table.concat(list, " ");
	end

	local function new_world_with(...)
		local world = new_world();
		world.admins = { ... };
		return world;
	end

	it("sends one chat message from the host to each admin, here or elsewhere", function ()
		local world = new_world_with("a@a.test", "b@b.test");
		local status, _, body = notify(world, "1 < 2 & ü\nsecond line");
		assert.equal(200, status);
		assert.truthy(body:find('"sent":["a@a.test","b@b.test"]', 1, true));
		assert.truthy(body:find('"not_sent":[]', 1, true));
		assert.equal("a@a.test b@b.test", list_sent(world));
		local message = world.sent[1];
		assert.equal("message", message.name);
		assert.same({ type = "chat", from = "a.test", to = "a@a.test", id = "new-1" }, message.attr);
		assert.equal("1 < 2 & ü\nsecond line", message:get_child_text("body"));
		assert.equal(1, #message.tags);
		assert.not_equal(message.attr.id, world.sent[2].attr.id);
	end);

	it("means all admins where to is missing, null or empty", function ()
		for _, to in ipairs { json.null, {} } do
			local world = new_world_with("a@a.test", "b@b.test");
			assert.equal(200, (notify(world, "x", to)));
			assert.equal("a@a.test b@b.test", list_sent(world));
		end
	end);

	it("goes to admins only, and says to whom it did not go", function ()
		local world = new_world_with("a@a.test", "b@b.test");
		local status, content = notify(world, "x", { "b@b.test", "user@a.test", "a@a.test/phone", "a.test", "@", "" });
		assert.equal(200, status);
		assert.equal("b@b.test", list_sent(world));
		assert.equal("b@b.test", table.concat(content.sent, " "));
		assert.equal("user@a.test a@a.test/phone a.test @ ", table.concat(content.not_sent, " "));
	end);

	it("goes once to whoever is named twice, however it is written", function ()
		local world = new_world_with("Admin@A.test", "admin@a.test");
		notify(world, "x");
		notify(world, "x", { "ADMIN@a.test", "admin@A.TEST" });
		assert.equal("admin@a.test admin@a.test", list_sent(world));
	end);

	it("goes to no admin who is not a user, and to nobody where there is none", function ()
		local world = new_world_with("a.test", "a@a.test/phone", "@");
		local _, content = notify(world, "x");
		assert.equal("a.test a@a.test/phone @", table.concat(content.not_sent, " "));
		local _, _, body = notify(new_world_with(), "x");
		assert.truthy(body:find('"sent":[]', 1, true));
		assert.same({}, world.sent);
	end);

	it("says so if sending fails", function ()
		local world = new_world_with("a@a.test", "b@b.test");
		world.broken = "a@a.test";
		local _, content = notify(world, "x");
		assert.equal("b@b.test", table.concat(content.sent, " "));
		assert.equal("a@a.test", table.concat(content.not_sent, " "));
	end);

	it("takes up to 2000 bytes of text", function ()
		local world = new_world_with("a@a.test");
		assert.equal(200, (notify(world, ("ü"):rep(1000))));
		assert.equal(400, (notify(world, ("ü"):rep(1000) .. "x")));
		for _, text in ipairs { "", " \n", 5, true, {}, json.null } do
			assert.equal(400, (notify(world, text)));
		end
		assert.equal(400, (notify(world, nil)));
		assert.equal(1, #world.sent);
	end);

	it("refuses control characters other than newline, and what XML cannot carry", function ()
		local world = new_world_with("a@a.test");
		local wrong = { "\0", "\1", "\t", "\r", "\27[2J", "\127", "\194\128", "\194\159", "\239\191\190", "\239\191\191" };
		for _, text in ipairs(wrong) do
			assert.truthy(notice.check_text("x" .. text) == nil, ("%q"):format(text));
			assert.equal(400, (notify(world, "x" .. text)));
		end
		for _, text in ipairs { "\255", "\195", "\237\160\128", "\192\128", "\244\144\128\128" } do
			assert.is_nil((notice.check_text("x" .. text)));
		end
		assert.is_true(notice.check_text("\194\160 \239\191\189 \240\159\152\128"));
		assert.same({}, world.sent);
	end);

	it("refuses a list of recipients that is none, or over 64", function ()
		local world = new_world_with("a@a.test");
		local many = {};
		for i = 1, 65 do many[i] = "a@a.test"; end
		for _, to in ipairs { many, { 5 }, { {} }, { a = "a@a.test" }, "a@a.test", 5, false } do
			assert.equal(400, (notify(world, "x", to)));
		end
		assert.same({}, world.sent);
	end);

	it("is not sent again for a repeated id", function ()
		local world = new_world_with("a@a.test");
		for _ = 1, 2 do
			assert.equal(200, (post(world, "operator.notify", { host = "a.test", text = "x" }, { id = "same" })));
		end
		assert.equal(1, #world.sent);
	end);
end);

describe("a command", function ()
	it("is for this host, of a known type, and has data", function ()
		local world = new_world();
		assert.equal(200, (post(world, "host.describe", { host = "a.test" })));
		assert.equal(400, (post(world, "host.describe", { host = "b.test" })));
		assert.equal(400, (post(world, "host.describe", {})));
		assert.equal(400, (post(world, "host.describe", nil)));
		assert.equal(400, (post(world, "account.destroy", { host = "a.test" })));
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

	it("that lists much is answered anew, so that long answers fill no memory", function ()
		local world = new_world();
		local data = { host = "a.test", service = "b.test", node = "long" };
		for _ = 1, 2 do assert.equal(200, (post(world, "list.read", data, { id = "same" }))); end
		assert.equal(2, world.read);
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

describe("a mitigation", function ()
	it("is answered with its status, and only what was done is not done again", function ()
		local world = new_world();
		local data = { host = "a.test", mitigation = "m1", account = "gone@a.test" };
		local status, content = post(world, "account.suspend", data, { id = "same" });
		assert.same({ 404, { error = "no such account" } }, { status, content });
		data.account = "x@a.test";
		status, content = post(world, "account.suspend", data, { id = "same" });
		assert.same({ 200, { mitigation = "m1" } }, { status, content });
		assert.equal(409, (post(world, "domain.block", data)));
		assert.equal(503, (post(world, "mitigation.lift", data)));
		assert.equal(200, (post(world, "mitigations.list", data)));
		assert.equal(200, (post(world, "impact.preview", data)));
		assert.equal("account.suspend not_found,account.suspend ok,domain.block refused,mitigation.lift failed,"
			.. "mitigations.list ok,impact.preview ok", table.concat(world.counted, ","));
	end);
end);

describe("a list of another server", function ()
	it("is read and let go, or why it cannot be is said", function ()
		local world = new_world();
		local data = { host = "a.test", service = "b.test", node = "list" };
		local status, content = post(world, "list.read", data);
		assert.same({ 200, { state = "loading" } }, { status, content });
		local _, _, body = post(world, "list.forget", data);
		assert.equal("{}", body);
		data.node = "gone";
		status, content = post(world, "list.read", data);
		assert.same({ 409, { error = "b.test says that the node gone is gone" } }, { status, content });
		assert.equal("list.read ok,list.forget ok,list.read refused", table.concat(world.counted, ","));
	end);
end);

describe("reporters.notify", function ()
	it("reaches users of this host, and nobody else", function ()
		local world = new_world();
		local to = { "alice@a.test", "nobody@a.test", "bob@b.test", "alice@a.test/phone", "a.test" };
		local status, content = post(world, "reporters.notify", { host = "a.test", text = "thank you", to = to });
		assert.equal(200, status);
		assert.same({ "alice@a.test", 4, 1 }, { content.sent[1], #content.not_sent, #world.sent });
		assert.same({ "a.test", "alice@a.test", "chat" },
			{ world.sent[1].attr.from, world.sent[1].attr.to, world.sent[1].attr.type });
	end);

	it("needs a text, and somebody to tell", function ()
		for _, data in ipairs { { text = "", to = { "a@a.test" } }, { text = "x" }, { text = "x", to = {} } } do
			data.host = "a.test";
			assert.equal(400, (post(new_world(), "reporters.notify", data)));
		end
	end);
end);

describe("host.describe", function ()
	it("tells versions, admins, capabilities and the host's own rooms", function ()
		local muc = { type = "component", modules = { muc = {} } };
		local hosts = {
			["a.test"] = { type = "local", modules = {} }, ["muc.a.test"] = muc, ["rooms.example"] = muc;
			["muc.b.test"] = muc, ["xa.test"] = muc, ["sub.a.test"] = { type = "local" }, ["muc.sub.a.test"] = muc;
		};
		local about = support.library("host").describe {
			host = "a.test", hosts = hosts, prosody_version = "13.0.1";
			admins = { "a@a.test", "b@a.test" }, muc = set.new { "rooms.example" };
		};
		assert.same({ "a@a.test", "b@a.test" }, { about.admins[1], about.admins[2] });
		assert.equal('["muc.a.test","rooms.example"]', json.encode(about.muc));
		assert.equal("stanza.send operator.notify host.describe reporters.notify list.read", table.concat(about.capabilities, " "));
		assert.equal("null", tostring(about.mitigations));
		assert.equal("13.0.1", about.prosody_version);
	end);

	it("offers mitigations where they can be stored, and bans where there are rooms", function ()
		local muc = { type = "component", modules = { muc = {} } };
		local function describe(hosts, mitigations)
			local about = support.library("host").describe {
				host = "a.test", hosts = hosts, admins = {}, muc = set.new(), mitigations = mitigations;
			};
			return table.concat(about.capabilities, " "), about.mitigations;
		end
		local without, nothing = describe({ ["muc.a.test"] = muc });
		assert.is_nil(without:find("suspend"));
		assert.equal(json.null, nothing);
		local with, store = describe({ ["muc.a.test"] = muc }, 3);
		assert.truthy(with:find("account.suspend domain.block mitigation.lift mitigations.list room.ban", 1, true));
		assert.same({ store = "incident_bridge", active = 3 }, store);
		assert.is_nil((describe({}, 3)):find("room.ban", 1, true));
	end);
end);
