local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local parse = require "util.xml".parse;

local wait = "wait/resource-constraint";

describe("the relay", function ()
	it("sends the first IQ at once and batches what comes meanwhile", function ()
		local world = support.new_world();
		for i = 1, 4 do world:report("r" .. i); end
		assert.equal("r1", world:ids());
		world:answer();
		assert.equal("r2 r3 r4", world:ids());
		assert.equal(2, #world.requests);
	end);

	it("sends the stanza as text, with what its stream proves, in a dated envelope", function ()
		local world = support.new_world();
		world:report("r1");
		local body = world.requests[1].body;
		assert.equal("stanza.received", body.type);
		assert.equal("2026-11-21T23:10:00Z", body.timestamp);
		assert.equal("certificate", body.data.items[1].stream.authentication);
		assert.truthy(body.data.items[1].stanza:find("urn:xmpp:incident:2", 1, true));
	end);

	it("sends nothing to a peer whose IQ is stored", function ()
		local world = support.new_world();
		world:report("r1");
		world:answer();
		world:pass(60);
		assert.same({}, world.sent);
		assert.same({ "report stored" }, world.counted);
		assert.equal(0, world.waiting);
	end);

	it("sends the stanza error that the bridge answers", function ()
		local world = support.new_world();
		world:report("r1");
		world:answer(200, '{"results":[{"stanza_error":{"type":"auth","condition":"forbidden","text":"no"}}]}');
		assert.equal("auth/forbidden", world:answers_to("r1"));
		assert.equal("no", select(3, world.sent[1]:get_error()));
	end);

	it("writes down by which id the bridge knows what came, whatever the peer calls it", function ()
		local world = support.new_world();
		world:report "r1\n2026 error x\27[31m";
		world:answer(200, '{"results":[{"interaction":"3kq5"}]}');
		world:report "r2";
		world:answer(200, '{"results":[{"interaction":"4x","stanza_error":{"type":"auth","condition":"forbidden"}}]}');
		world:report "r3";
		world:answer(200, '{"results":[{"interaction":"x\\ny"}]}');
		assert.same({
			"info: report r1?2026?error?x?[31m from b.test is stored, interaction=3kq5";
			"info: report r2 from b.test is refused, interaction=4x";
		}, world.logged);
	end);

	it("takes no stanza error where there is none", function ()
		local world = support.new_world();
		world:report("r1");
		world:answer(200, '{"results":[{"stanza_error":null}]}');
		assert.same({ "report stored" }, world.counted);
	end);

	it("makes no stanza error out of nonsense", function ()
		local nonsense = {
			'"x"', "{}", '{"type":"auth"}', '{"type":"auth","condition":"<x/>"}', '{"type":"x","condition":"forbidden"}';
		};
		for _, stanza_error in ipairs(nonsense) do
			local world = support.new_world();
			world:report("r1");
			world:answer(200, '{"results":[{"stanza_error":' .. stanza_error .. '}]}');
			assert.equal("wait/internal-server-error", world:answers_to("r1"));
		end
	end);

	it("tells every peer to wait when the bridge cannot be reached", function ()
		local world = support.new_world();
		world:report("r1");
		world:answer(0, "connection refused");
		world:report("r2");
		world:answer(503);
		assert.equal(wait, world:answers_to("r1"));
		assert.equal(wait, world:answers_to("r2"));
	end);

	it("tells peers to wait when the answer makes no sense", function ()
		for _, answer in ipairs {
			"", "[]", '{"results":[]}', '{"results":[{},{}]}', '{"results":[5]}', '{"results":[null]}', '{"results":{}}';
		} do
			local world = support.new_world();
			world:report("r1");
			world:answer(200, answer);
			assert.equal(wait, world:answers_to("r1"));
		end
	end);

	it("tells peers to wait when sending itself fails, and goes on", function ()
		local fails = true;
		local world = support.new_world { post = function () if fails then error("no TLS"); end end };
		world:report("r1");
		assert.equal(wait, world:answers_to("r1"));
		fails = false;
		world:report("r2");
		assert.equal("r2", world:ids());
	end);

	it("answers by the deadline of each IQ, though the request is still under way", function ()
		local world = support.new_world();
		world:report("r1");
		world:pass(3);
		world:report("r2");
		world:pass(2.1);
		assert.equal(wait, world:answers_to("r1"));
		assert.equal("", world:answers_to("r2"));
		world:pass(3);
		assert.equal(wait, world:answers_to("r2"));
	end);

	it("never sends what was answered in the queue", function ()
		local world = support.new_world();
		world:report("r1");
		world:report("r2");
		world:pass(5.1);
		world:answer(0, "timeout");
		assert.equal(1, #world.requests);
		assert.equal(wait, world:answers_to("r2"));
		assert.equal(0, world.waiting);
	end);

	it("gives a request as long as its newest IQ may wait", function ()
		local world = support.new_world();
		world:report("r1");
		world:pass(1);
		world:report("r2");
		world:pass(3);
		world:report("r3");
		world:answer();
		assert.equal(5, world.requests[2].seconds);
	end);

	it("answers nobody twice when the bridge's answer comes too late", function ()
		local world = support.new_world();
		world:report("r1");
		world:pass(5.1);
		world:answer();
		assert.equal(wait, world:answers_to("r1"));
		assert.equal(1, #world.sent);
	end);

	it("answers at once when the queue or a peer's share of it is full, and spares the others", function ()
		local world = support.new_world { max_queued = 16 };
		for i = 1, 4 do world:report("r" .. i); end
		assert.equal("", world:answers_to("r3"));
		assert.equal(wait, world:answers_to("r4"));
		world:report("c1", "c.test");
		assert.equal("", world:answers_to("c1"));
	end);

	it("keeps nothing of what is over", function ()
		local world = support.new_world();
		for i = 1, 500 do
			world:report("r" .. i);
			world:answer();
		end
		assert.is_nil(next(world.relay.open));
		assert.is_true(world.relay.by_age.first > world.relay.by_age.last);
		assert.is_nil(next(world.relay.queue.peers));
	end);

	it("sends at most 64 items and 1 MiB at once", function ()
		local world = support.new_world { max_queued = 1024 };
		for i = 0, 100 do world:report("r" .. i); end
		world:answer();
		assert.equal(64, #world.requests[2].body.data.items);
		local big = support.new_world { max_queued = 1024 };
		for i = 0, 20 do
			local stanza = support.iq("set", "r" .. i, "b.test");
			stanza.tags[1]:text(("x"):rep(100000));
			big.relay:receive(stanza, "report", {}, "b.test");
		end
		big:answer();
		assert.equal(10, #big.requests[2].body.data.items);
		assert.is_true(#big.requests[2].text <= 1024 * 1024);
	end);

	it("refuses what is too big without relaying it", function ()
		local world = support.new_world { max_stanza_bytes = 150 };
		world:report("r1");
		local stanza = support.iq("set", "r2", "b.test");
		stanza:text(("x"):rep(100));
		world.relay:receive(stanza, "report", {}, "b.test");
		assert.equal("modify/policy-violation", world:answers_to("r2"));
		assert.equal(1, #world.requests);
	end);

	it("refuses what fits into no request, whatever the operator allows", function ()
		local world = support.new_world { max_stanza_bytes = 1048576 };
		local stanza = support.iq("set", "r1", "b.test");
		stanza.tags[1]:text(("\n"):rep(600000));
		world.relay:receive(stanza, "report", {}, "b.test");
		assert.equal("modify/policy-violation", world:answers_to("r1"));
	end);

	it("refuses an IQ of the wrong type, without an id, or with too long a one", function ()
		local world = support.new_world();
		local kinds = { report = "get", response = "get", inquiry = "set", request = "set" };
		for kind, wrong_type in pairs(kinds) do
			world.relay:receive(support.iq(wrong_type, kind, "b.test", kind), kind, {}, "b.test");
			assert.equal("modify/bad-request", world:answers_to(kind));
		end
		local long = ("x"):rep(257);
		world:report(long);
		assert.equal("modify/bad-request", world:answers_to(long));
		world:report(nil);
		assert.equal(6, #world.sent);
		assert.same({}, world.requests);
	end);

	it("relays all four interactions, and results and errors, in the order they came", function ()
		local world = support.new_world();
		world:report("r0");
		world:result("ib-1");
		world.relay:receive(support.iq("get", "i1", "b.test", "inquiry"), "inquiry", {}, "b.test");
		world.relay:receive(support.iq("get", "q1", "b.test", "request"), "request", {}, "b.test");
		world.relay:receive(support.iq("set", "s1", "b.test", "response"), "response", {}, "b.test");
		world.relay:receive(support.iq("error", "ib-2", "b.test"), "error", {}, "b.test");
		world:answer();
		assert.equal("ib-1 i1 q1 s1 ib-2", world:ids());
	end);

	it("passes on the payload of a result, and the error of an error without what it echoes", function ()
		local world = support.new_world { max_stanza_bytes = 150 };
		local result = support.iq("result", "ib-1", "b.test");
		result:tag("query", { xmlns = "http://jabber.org/protocol/disco#info" }):tag("feature", { var = "urn:xmpp:incident:2" });
		world.relay:receive(result, "result", {}, "b.test");
		assert.equal(tostring(result), world.requests[1].body.data.items[1].stanza);
		local error = support.iq("error", "ib-2", "b.test");
		error:tag("report", { xmlns = "urn:xmpp:incident:2" }):text(("x"):rep(140000)):up();
		error:tag("error", { type = "cancel" })
			:tag("service-unavailable", { xmlns = "urn:ietf:params:xml:ns:xmpp-stanzas" }):up()
			:tag("text", { xmlns = "urn:ietf:params:xml:ns:xmpp-stanzas" }):text("not here");
		world.relay:receive(error, "error", {}, "b.test");
		world:answer();
		local relayed = parse(world.requests[2].body.data.items[1].stanza);
		assert.same({ "cancel", "service-unavailable", "not here" }, { relayed:get_error() });
		assert.equal(1, #relayed.tags);
		assert.same({ type = "error", id = "ib-2", from = "b.test", to = "a.test" }, relayed.attr);
	end);

	it("keeps the meaning of a reply that is too big", function ()
		local world = support.new_world();
		local result = support.iq("result", "ib-1", "b.test"):tag("query", { xmlns = "x" }):text(("x"):rep(140000)):up();
		world.relay:receive(result, "result", {}, "b.test");
		local error = support.iq("error", "ib-2", "b.test"):tag("error", { type = "cancel" });
		error:tag("text", { xmlns = "urn:ietf:params:xml:ns:xmpp-stanzas" }):text(("\n"):rep(140000)):reset();
		world.relay:receive(error, "error", {}, "b.test");
		local small = parse(world.requests[1].body.data.items[1].stanza);
		assert.equal("result b.test ib-1 0", table.concat({ small.attr.type, small.attr.from, small.attr.id, #small.tags }, " "));
		world:answer();
		small = parse(world.requests[2].body.data.items[1].stanza);
		assert.equal("cancel undefined-condition", table.concat({ small:get_error() }, " ", 1, 2));
	end);

	it("passes on an error that has no <error/>", function ()
		local world = support.new_world();
		world.relay:receive(support.iq("error", "ib-1", "b.test"), "error", {}, "b.test");
		assert.equal("ib-1", world:ids());
	end);

	it("gives made-up replies no more of the queue than everything else of that peer", function ()
		local world = support.new_world { max_queued = 16 };
		for i = 1, 1000 do world:result("ib-" .. i); end
		assert.equal(2, world.relay.queue.count);
		assert.equal(3, world.relay.by_age.last);
		world:report("r1");
		assert.equal(wait, world:answers_to("r1"));
		world:report("c1", "c.test");
		world:result("ib-c", "c.test");
		world:answer();
		assert.equal("ib-2 c1 ib-3 ib-c", world:ids());
	end);

	it("never answers a result or an error", function ()
		local world = support.new_world { max_queued = 8 };
		world:result("ib-1");
		world:result("ib-2");
		world:result("ib-3");
		world:answer(200, '{"results":[{"stanza_error":{"type":"auth","condition":"forbidden"}}]}');
		world:answer(0, "timeout");
		assert.same({}, world.sent);
	end);

	it("answers for the bridge the peers that it refuses, for as long as it said", function ()
		local world = support.new_world();
		world:report("r1");
		world:answer(200, '{"results":[{}],"refuse":{"b.test":30,"c.test":-1,"d.test":"x"}}');
		world:report("r2");
		world:result("ib-1");
		assert.equal(wait, world:answers_to("r2"));
		assert.equal("ib-1", world:ids());
		world:answer();
		world:report("c1", "c.test");
		world:answer();
		world:pass(31);
		world:report("r3");
		assert.equal("r3", world:ids());
	end);

	it("says what is wrong with the configuration, and tells peers to wait", function ()
		local world = support.new_world { problem = "incident_bridge_secret: it is missing" };
		world:report("r1");
		assert.equal(wait, world:answers_to("r1"));
		assert.same({ "error: incident_bridge_secret: it is missing" }, world.logged);
		assert.same({}, world.requests);
	end);
end);

describe("trouble with the bridge", function ()
	local function logged_after(code, answer)
		local world = support.new_world();
		world:report("r1");
		world:answer(code, answer);
		return world.logged[1];
	end

	it("is logged with what to do about it", function ()
		assert.truthy(logged_after(401, '{"error":"signature does not match"}'):find("incident_bridge_secret", 1, true));
		assert.truthy(logged_after(401, '{"error":"x","now":1795302999}'):find("clock is 399 seconds", 1, true));
		assert.truthy(logged_after(400, '{"error":"no id"}'):find("no id", 1, true));
		assert.truthy(logged_after(404, "<html>"):find("does not know this host", 1, true));
		assert.truthy(logged_after(500, ""):find("see its log", 1, true));
		assert.truthy(logged_after(0, "connection refused"):find("connection refused", 1, true));
	end);

	it("is logged once a minute, and when it is over", function ()
		local world = support.new_world();
		for i = 1, 5 do
			world:report("r" .. i);
			world:answer(500);
		end
		assert.equal(1, #world.logged);
		world:pass(61);
		world:report("r6");
		world:answer(500);
		assert.equal(2, #world.logged);
		world:report("r7");
		world:answer();
		assert.equal("info: The incident bridge answers again", world.logged[3]);
		assert.same({ "error", "core" }, world.statuses);
	end);
end);

describe("a reply of the bridge", function ()
	it("goes out for what is stored", function ()
		local world = support.new_world();
		world:report("r1");
		world:answer();
		assert.is_true(world.relay:claim_reply("b.test", "r1"));
	end);

	it("goes out for what this module knows nothing of, as after a restart", function ()
		assert.is_true(support.new_world().relay:claim_reply("b.test", "r1"));
	end);

	it("is dropped after the module answered itself", function ()
		local world = support.new_world();
		world:report("r1");
		world:pass(5.1);
		assert.is_false(world.relay:claim_reply("b.test", "r1"));
		assert.is_true(world.relay:claim_reply("c.test", "r1"));
	end);

	it("goes out again when the same peer repeats the same id", function ()
		local world = support.new_world();
		world:report("r1");
		world:pass(5.1);
		world:answer(0, "timeout");
		world:report("r1");
		assert.is_true(world.relay:claim_reply("b.test", "r1"));
	end);

	it("that overtakes the answer to the request is the only answer", function ()
		local world = support.new_world();
		world:report("r1");
		assert.is_true(world.relay:claim_reply("b.test", "r1"));
		world:answer(0, "timeout");
		world:pass(6);
		assert.same({}, world.sent);
		assert.is_true(world.relay:claim_reply("b.test", "r1"));
	end);

	it("answers the older of two IQs with the same id", function ()
		local world = support.new_world();
		world:report("r1");
		world:report("r1");
		assert.is_true(world.relay:claim_reply("b.test", "r1"));
		world:pass(5.1);
		assert.equal(wait, world:answers_to("r1"));
	end);

	it("is dropped for the last thousand only", function ()
		local world = support.new_world { max_queued = 1024 };
		for i = 1, 1001 do
			world:report("r" .. i);
			world:answer(500);
		end
		assert.is_true(world.relay:claim_reply("b.test", "r1"));
		assert.is_false(world.relay:claim_reply("b.test", "r2"));
	end);

	it("is not expected for what was never sent, so that a flood cannot fill the memory", function ()
		local world = support.new_world { max_queued = 8 };
		for i = 1, 10 do world:report("r" .. i); end
		assert.equal(0, world.relay.answered:count());
	end);
end);

describe("a reload of the module", function ()
	local function reload(world)
		local saved = world.relay:save();
		local new = support.new_world();
		new.time, new.sent = world.time, world.sent;
		new.relay:restore(saved);
		return new;
	end

	it("repeats the request under way with the same id and body, and keeps what waits in order", function ()
		local world = support.new_world();
		for i = 1, 3 do world:report("r" .. i); end
		local new = reload(world);
		assert.is_true(world.requests[1].is_cancelled);
		assert.equal(world.requests[1].id, new.requests[1].id);
		assert.equal(world.requests[1].text, new.requests[1].text);
		new:answer();
		assert.equal("r2 r3", new:ids());
		new:answer();
		new:pass(10);
		assert.same({}, new.sent);
	end);

	it("does not let the old instance answer any more", function ()
		local world = support.new_world();
		world:report("r1");
		reload(world);
		world:answer(500);
		world:pass(10);
		assert.same({}, world.sent);
	end);

	it("keeps the deadlines", function ()
		local world = support.new_world();
		world:report("r1");
		world:report("r2");
		world:pass(4);
		local new = reload(world);
		new:pass(1.1);
		assert.equal(wait, new:answers_to("r1"));
		assert.equal(wait, new:answers_to("r2"));
		assert.equal(0, new.relay.queue.count);
	end);

	it("keeps what was answered and whom the bridge refuses", function ()
		local world = support.new_world();
		world:report("r1");
		world:pass(5.1);
		world:answer(200, '{"results":[{}],"refuse":{"b.test":30}}');
		local new = reload(world);
		assert.is_false(new.relay:claim_reply("b.test", "r1"));
		new:report("r2");
		assert.equal(wait, new:answers_to("r2"));
	end);

	it("answers everybody if the new configuration is wrong", function ()
		local world = support.new_world();
		world:report("r1");
		world:report("r2");
		local saved = world.relay:save();
		local new = support.new_world { problem = "incident_bridge_secret: it is missing" };
		new.relay:restore(saved);
		assert.equal(wait, new:answers_to("r1"));
		assert.equal(wait, new:answers_to("r2"));
	end);

	it("starts from nothing when nothing was saved", function ()
		local world = support.new_world();
		world.relay:restore({});
		world:report("r1");
		assert.equal("r1", world:ids());
	end);

	it("that is an unload answers everybody, also those who come later", function ()
		local world = support.new_world();
		world:report("r1");
		world:report("r2");
		world.relay:stop();
		world.relay:stop();
		world:answer();
		world:report("r3");
		assert.equal(wait, world:answers_to("r3"));
		assert.equal(wait, world:answers_to("r1"));
		assert.equal(wait, world:answers_to("r2"));
	end);
end);
