local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local json = require "util.json";
local st = require "util.stanza";

local lib = support.library "adhoc_commands";
local node = lib.list[1].node;

-- A world where the bridge answers when the test says so.
local function new_world(problem)
	local world = { requests = {}, sent = {}, logged = {} };
	world.commands = lib.new({
		is_admin = function (bare) return bare == "admin@a.test"; end;
		post = function (id, body, seconds, callback)
			if world.broken then error(world.broken); end
			table.insert(world.requests, { id = id, body = json.decode(body), seconds = seconds, answer = callback });
		end;
		send = function (stanza) table.insert(world.sent, stanza); end;
		new_id = function () return "id-" .. #world.requests + 1; end;
		clock = function () return 1795302600; end;
		log = function (level, text, ...) table.insert(world.logged, level .. ": " .. text:format(...)); end;
	}, problem);
	return world;
end

local function command(attr, from)
	attr = attr or {};
	attr.xmlns, attr.node = lib.xmlns, attr.node or node;
	return st.iq({ type = "set", id = "1", from = from or "admin@a.test/phone", to = "a.test" }):tag("command", attr);
end

local function error_of(stanza)
	local type, condition, text = stanza:get_error();
	return type .. "/" .. condition, text;
end

describe("an ad-hoc command", function ()
	it("goes to the bridge with what was typed, and its answer back", function ()
		local world = new_world();
		local stanza = command({ sessionid = "s1", action = "complete" });
		stanza:tag("x", { xmlns = "jabber:x:data", type = "submit" })
			:tag("field", { var = "to" }):text_tag("value", "b.test"):text_tag("value", "c.test"):up()
			:tag("field", { var = "nothing" }):up();
		assert.is_true(world.commands:handle(stanza, "192.0.2.7"));
		local request = world.requests[1];
		assert.equal("adhoc.command", request.body.type);
		local data = request.body.data;
		assert.same({ node, "s1", "complete", "admin@a.test/phone", "192.0.2.7" },
			{ data.node, data.session, data.action, data.from, data.ip });
		assert.same({ "b.test", "c.test" }, { data.fields[1].values[1], data.fields[1].values[2] });
		assert.equal(0, #data.fields[2].values);
		request.answer(200, json.encode {
			session = "s1", status = "executing", actions = { "prev", "complete" };
			note = { type = "error", text = "no" };
			form = { type = "form", title = "T", instructions = { "I" }, fields = {
				{ var = "a", type = "list-single", label = "A", values = { "1" }, required = true;
					options = { { label = "One", value = "1" } } };
			} };
		});
		local reply = world.sent[1];
		assert.same({ "result", "1", "admin@a.test/phone" }, { reply.attr.type, reply.attr.id, reply.attr.to });
		local tag = reply:get_child("command", lib.xmlns);
		assert.same({ "executing", "s1" }, { tag.attr.status, tag.attr.sessionid });
		assert.equal("complete", tag:get_child("actions").attr.execute);
		assert.truthy(tag:get_child("actions"):get_child("prev"));
		assert.equal("no", tag:get_child_text("note"));
		local field = tag:get_child("x", "jabber:x:data"):get_child("field");
		assert.equal("One", field:get_child("option").attr.label);
		assert.truthy(field:get_child("required"));
	end);

	it("of somebody who is no admin is refused without asking the bridge", function ()
		local world = new_world();
		assert.is_true(world.commands:handle(command(nil, "alice@a.test/phone")));
		assert.is_true(world.commands:handle(command({ action = "cancel" }, "admin@b.test/phone")));
		assert.equal("auth/forbidden", (error_of(world.sent[1])));
		assert.equal("auth/forbidden", (error_of(world.sent[2])));
		assert.same({}, world.requests);
	end);

	it("of another module is left to it", function ()
		local world = new_world();
		assert.is_nil(world.commands:handle(command({ node = "ping" })));
		assert.same({}, world.sent);
	end);

	it("is cancelled at once, and not passed on where its action is unknown", function ()
		local world = new_world();
		world.commands:handle(command({ action = "cancel", sessionid = "s" }));
		assert.equal("canceled", world.sent[1]:get_child("command", lib.xmlns).attr.status);
		world.commands:handle(command({ action = "dance" }));
		assert.equal("modify/bad-request", (error_of(world.sent[2])));
		assert.truthy(world.sent[2]:get_child("error"):get_child("malformed-action", lib.xmlns));
		assert.same({}, world.requests);
	end);

	it("is answered with the reason while the bridge is away, refuses, or makes no sense", function ()
		for code, words in pairs { [0] = "does not answer", [401] = "signature", [404] = "does not know this host", [500] = "500" } do
			local world = new_world();
			world.commands:handle(command());
			world.requests[1].answer(code, "");
			local kind, text = error_of(world.sent[1]);
			assert.equal("wait/resource-constraint", kind);
			assert.truthy(text:find(words, 1, true), text);
		end
		for _, answer in ipairs { "", "[", "7", '{"status":7,"form":{"fields":[7]}}', '{"error":{"type":7}}' } do
			local world = new_world();
			world.commands:handle(command());
			world.requests[1].answer(200, answer);
			assert.equal(1, #world.sent);
		end
		local world = new_world();
		world.broken = "no socket";
		world.commands:handle(command());
		assert.equal("wait/resource-constraint", (error_of(world.sent[1])));
		assert.equal(0, world.commands.count);
	end);

	it("is refused by the bridge's word, with that of XEP-0050 beside it", function ()
		local world = new_world();
		world.commands:handle(command({ sessionid = "old" }));
		world.requests[1].answer(200, json.encode {
			error = { type = "cancel", condition = "not-allowed", text = "too late", detail = "session-expired" };
		});
		local kind, text = error_of(world.sent[1]);
		assert.same({ "cancel/not-allowed", "too late" }, { kind, text });
		assert.truthy(world.sent[1]:get_child("error"):get_child("session-expired", lib.xmlns));
	end);

	it("cannot make this server send what no XML stream carries", function ()
		local world = new_world();
		world.commands:handle(command());
		world.requests[1].answer(200, '{"status":"completed","session":"s","note":{"type":"info","text":"a\\u0000b\\u0007c\\uffffd"}}');
		assert.equal("a?b?c?d", world.sent[1]:get_child("command", lib.xmlns):get_child_text("note"));
	end);

	it("is answered once, also where the server stops or too many wait", function ()
		local world = new_world();
		for _ = 1, 17 do world.commands:handle(command()); end
		assert.equal(16, #world.requests);
		assert.equal("wait/resource-constraint", (error_of(world.sent[1])));
		world.commands:stop();
		assert.equal(17, #world.sent);
		world.requests[1].answer(200, "{}");
		assert.equal(17, #world.sent);
	end);

	it("is refused where the form is too big or the module is not configured", function ()
		local world = new_world();
		local stanza = command();
		stanza:tag("x", { xmlns = "jabber:x:data" }):tag("field", { var = "text" }):text_tag("value", ("x"):rep(140000));
		world.commands:handle(stanza);
		assert.equal("modify/policy-violation", (error_of(world.sent[1])));
		world = new_world("no secret");
		world.commands:handle(command());
		assert.equal("wait/resource-constraint", (error_of(world.sent[1])));
	end);
end);
