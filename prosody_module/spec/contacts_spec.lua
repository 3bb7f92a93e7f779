local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local st = require "util.stanza";
local xml = require "util.xml";

local contacts;

local function message(to, text, thread, type, id)
	local made = st.message({ type = type or "chat", to = to, from = "x@b.test/phone", id = id or "ib-1" }, text);
	if thread then made:text_tag("thread", thread); end
	return made;
end

-- A message with a report, as the bridge writes it but for the changes.
local function report(changes)
	local text = changes.whole or ("<report xmlns='%s' reason='urn:xmpp:reporting:%s' by='alice'>"
		.. "<jid xmlns='urn:xmpp:jid:0'>%s</jid><text>%s</text>%s</report>%s"):format(
		changes.xmlns or "urn:xmpp:reporting:1", changes.reason or "spam", changes.jid or "x@b.test",
		changes.text or "seen here", changes.inside or "", changes.beside or "");
	local made = xml.parse(("<message>%s</message>"):format(text));
	made.attr = { to = changes.to or "abuse@b.test", id = changes.id or "ib-report-1-1", type = changes.type };
	return made, text;
end

local function check(stanza)
	return support.library("contacts").check(stanza, "a.test", function (domain) return domain == "a.test"; end);
end

describe("chat with contacts", function ()
	before_each(function () contacts = support.library("contacts").new(); end);

	it("goes to a user of another server, from the host, with nothing but text and thread", function ()
		local sent = check(message("abuse@b.test", "hello", "whatever"));
		assert.equal("a.test", sent.attr.from);
		assert.equal("ib-1", sent:get_child_text("thread"));
		assert.equal("hello", sent:get_child_text("body"));
		assert.equal(2, #sent.tags);
	end);

	it("goes nowhere else, and carries nothing else", function ()
		for _, to in ipairs { "b.test", "abuse@b.test/phone", "user@a.test" } do
			assert.is_nil(check(message(to, "hello")));
		end
		assert.is_nil(check(message("abuse@b.test", "hello", nil, "groupchat")));
		assert.is_nil(check(message("abuse@b.test", "hello", nil, "chat", "x1")));
		assert.is_nil(check(message("abuse@b.test", " ")));
		assert.is_nil(check(message("abuse@b.test", ("x"):rep(16001))));
		assert.is_nil(check(message("abuse@b.test", "hello"):tag("invite", { xmlns = "x" }):up()));
	end);

	it("is accompanied by reports for programs, rebuilt from what was found good", function ()
		for _, reason in ipairs { "spam", "abuse" } do
			local sent = check(report { reason = reason, jid = "spammer@c.test" });
			assert.same({ from = "a.test", to = "abuse@b.test", id = "ib-report-1-1" }, sent.attr);
			local again = xml.parse(tostring(sent));
			local found = again:get_child("report", "urn:xmpp:reporting:1");
			assert.equal("urn:xmpp:reporting:" .. reason, found.attr.reason);
			assert.equal("spammer@c.test", found:get_child_text("jid", "urn:xmpp:jid:0"));
			assert.equal("seen here", found:get_child_text("text", "urn:xmpp:reporting:1"));
			assert.same({ 1, 2 }, { #again.tags, #found.tags });
			assert.is_nil(found.attr.by);
		end
	end);

	it("is accompanied by no other report, and by nothing that only begins as one", function ()
		assert.is_truthy(check(report {}));
		for _, changes in ipairs {
			{ to = "b.test" }, { to = "abuse@b.test/phone" }, { to = "user@a.test" };
			{ type = "chat" }, { type = "normal" }, { id = "ib-1" }, { id = "x" }, { id = "ib-report-" .. ("x"):rep(256) };
			{ reason = "other" }, { reason = "" }, { text = "" }, { text = " " }, { text = ("x"):rep(2001) };
			{ jid = "" }, { jid = "c.test" }, { jid = "x@c.test/phone" }, { jid = "X@c.test" }, { jid = "x y@c.test" };
			{ jid = "user@a.test" }, { jid = "<x/>x@c.test" }, { text = "x<b>y</b>" };
			{ inside = "<text>more</text>" }, { inside = "<jid xmlns='urn:xmpp:jid:0'>y@c.test</jid>" };
			{ inside = "<stanza-id xmlns='urn:xmpp:sid:0' by='x@c.test' id='1'/>" };
			{ beside = "<body>hello</body>" }, { beside = "<thread>ib-report-1-1</thread>" };
			{ beside = "<report xmlns='urn:xmpp:reporting:1' reason='urn:xmpp:reporting:spam'/>" };
			{ xmlns = "urn:xmpp:reporting:0" }, { whole = "<report xmlns='urn:xmpp:reporting:1'/>" };
			{ whole = "<body>hello</body>" .. select(2, report {}) };
		} do
			local sent, why = check(report(changes));
			assert.is_nil(sent);
			assert.is_string(why);
		end
	end);

	it("hears nothing of what comes back for a report, and takes no answer for one to it", function ()
		assert.is_nil(contacts:read(st.error_reply(check(report {}), "cancel", "service-unavailable")));
		assert.is_nil(contacts:read(message("a.test", "done", "ib-report-1-1")));
		contacts:remember(st.message({ to = "x@b.test", id = "ib-8" }));
		assert.equal("ib-8", contacts:read(message("a.test", "done", "ib-report-1-1")):get_child_text("thread"));
	end);

	it("hears an answer by its thread, or because the host wrote to that user before", function ()
		local said, kind = contacts:read(message("a.test", "done", "ib-7", "chat", "m1"));
		assert.same({ "message", "ib-7", "m1" }, { kind, said:get_child_text("thread"), said.attr.id });
		assert.is_nil(contacts:read(message("a.test", "done")));
		contacts:remember(st.message({ to = "x@b.test", id = "ib-8" }));
		assert.equal("ib-8", contacts:read(message("a.test", "done")):get_child_text("thread"));
		assert.is_nil(contacts:read(message("a.test", " ", "ib-7")));
		assert.is_nil(contacts:read(message("a.test", "done", "x-7"):remove_children("body")));
	end);

	it("hears that a message of the host's was not delivered, and of no other error", function ()
		local sent = st.message({ to = "x@b.test", from = "a.test", id = "ib-9", type = "chat" });
		local _, kind = contacts:read(st.error_reply(sent, "cancel", "service-unavailable"));
		assert.equal("error", kind);
		sent.attr.id = "x";
		assert.is_nil(contacts:read(st.error_reply(sent, "cancel", "service-unavailable")));
	end);

	it("cuts a long answer between characters", function ()
		local said = contacts:read(message("a.test", ("ü"):rep(5000), "ib-7"));
		local body = said:get_child_text("body");
		assert.equal(8000, #body);
		assert.is_truthy(xml.parse(tostring(said)));
	end);
end);

describe("what a person writes", function ()
	it("travels to the bridge like all else, and is returned as not delivered where the bridge is away", function ()
		local world = support.new_world();
		local said = message("a.test", "done", "ib-7", "chat", "m1");
		world.relay:receive(said, "message", {}, "b.test");
		assert.is_truthy(world.requests[1].body.data.items[1].stanza:find("<thread>ib%-7</thread>"));
		world:answer();
		assert.same({}, world.sent);
		world.relay:receive(said, "message", {}, "b.test");
		world:answer(0, "away");
		assert.equal("message", world.sent[1].name);
		assert.equal("wait/resource-constraint", world:answers_to("m1"));
	end);
end);
