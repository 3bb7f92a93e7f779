local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local json = require "util.json";
local st = require "util.stanza";

local lib = support.library "abuse";

-- A world where the bridge answers when the test says so.
local function new_world(problem)
	local world = { requests = {}, logged = {}, counted = {}, timers = {}, time = 1000 };
	world.deps = {
		host = "a.test", log = function (level, text, ...) table.insert(world.logged, level .. ": " .. text:format(...)); end;
		is_local_domain = function (domain) return domain == "a.test"; end;
		is_admin = function (bare) return bare == "admin@a.test"; end;
		clock = function () return 1795302600; end;
		now = function () return world.time; end;
		new_id = function () return "id-" .. #world.requests + 1; end;
		timer = function (seconds, callback) table.insert(world.timers, { seconds = seconds, callback = callback }); end;
		post = function (id, body, _, callback)
			table.insert(world.requests, { id = id, body = body, data = json.decode(body).data, answer = callback });
			return function () world.is_cancelled = true; end;
		end;
		count = function (outcome) table.insert(world.counted, outcome); end;
	};
	world.reports = lib.new(world.deps, problem);
	return world;
end

-- The command to block somebody; without a reason there is no report in it.
local function block(jids, reason, xmlns)
	local stanza = st.iq({ type = "set", id = "1", from = "alice@a.test/phone" }):tag("block", { xmlns = "urn:xmpp:blocking" });
	for _, jid in ipairs(jids) do
		stanza:tag("item", { jid = jid });
		if reason then stanza:tag("report", { xmlns = xmlns or lib.xmlns, reason = reason }):up(); end
		stanza:up();
	end
	return stanza:reset();
end

local function report_of(stanza)
	return stanza.tags[1].tags[1].tags[1];
end

describe("a report of a user", function ()
	it("goes to the bridge with what it says, and what the user agreed to", function ()
		local world = new_world();
		local stanza = block({ "Spam@B.test/x" }, "urn:xmpp:reporting:spam");
		report_of(stanza):text_tag("text", "buy this"):tag("report-origin"):up()
			:tag("stanza-id", { xmlns = "urn:xmpp:sid:0", by = "alice@a.test", id = "s-1" }):up();
		world.reports:hear_block(stanza, "alice");
		assert.same({ {
			reporter = "alice@a.test", jid = "spam@b.test/x", kind = "spam", text = "buy this", stanza_ids = { "s-1" };
			report_origin = true, third_party = false, is_own = false, is_admin = false, at = "2026-11-21T23:10:00Z";
		} }, world.requests[1].data.items);
		assert.truthy(world.requests[1].body:find('"abuse.reported"', 1, true));
	end);

	it("is counted once though mod_spam_reporting tells of it too", function ()
		local world = new_world();
		local stanza = block({ "spam@b.test" }, "urn:xmpp:reporting:abuse");
		local item = stanza.tags[1].tags[1];
		world.reports:hear_event({ origin = { type = "c2s", username = "alice" }, item = item, report = report_of(stanza) });
		world.reports:hear_block(stanza, "alice");
		assert.same({ "abuse", 1 }, { world.requests[1].data.items[1].kind, #world.requests[1].data.items });
		assert.same({}, world.reports.waiting);
	end);

	it("of the older version, or for another reason, is heard", function ()
		local world = new_world();
		local stanza = block({ "spam@b.test" }, "", "urn:xmpp:reporting:0");
		report_of(stanza):tag("spam"):up();
		world.reports:hear_block(stanza, "alice");
		world.requests[1].answer(200, "{}");
		world.reports:hear_block(block({ "spam@b.test" }, "urn:example:rude"), "alice");
		assert.same({ "spam", "other" }, { world.requests[1].data.items[1].kind, world.requests[2].data.items[1].kind });
	end);

	it("is none where somebody is only blocked, or the block will be refused", function ()
		local world = new_world();
		world.reports:hear_block(block { "spam@b.test" }, "alice");
		world.reports:hear_block(block({ "spam@b.test", "@" }, "urn:xmpp:reporting:spam"), "alice");
		assert.same({}, world.requests);
	end);

	it("says whether it is about this server or an admin of it", function ()
		local world = new_world();
		world.reports:hear_block(block({ "admin@a.test" }, "urn:xmpp:reporting:abuse"), "alice");
		local item = world.requests[1].data.items[1];
		assert.same({ true, true }, { item.is_own, item.is_admin });
	end);

	it("has its text cut between two characters", function ()
		local world = new_world();
		local stanza = block({ "spam@b.test" }, "urn:xmpp:reporting:spam");
		report_of(stanza):text_tag("text", ("é"):rep(999) .. "aéé");
		world.reports:hear_block(stanza, "alice");
		assert.equal(("é"):rep(999) .. "a", world.requests[1].data.items[1].text);
	end);
end);

describe("reports of users", function ()
	it("that come while a request is under way travel together in the next", function ()
		local world = new_world();
		for i = 1, 100 do world.reports:hear_block(block({ "spam@b.test" }, "urn:xmpp:reporting:spam"), "user" .. i); end
		assert.equal(1, #world.requests);
		world.requests[1].answer(200, "{}");
		world.requests[2].answer(200, "{}");
		world.requests[3].answer(200, "{}");
		world.requests[4].answer(200, "{}");
		local sizes = {};
		for i, request in ipairs(world.requests) do sizes[i] = #request.data.items; end
		assert.same({ 1, 48, 48, 3 }, sizes);
		assert.same({}, world.reports.of_user);
	end);

	it("fit into what the bridge reads, however long they are", function ()
		local world = new_world();
		for i = 1, 65 do
			local name = ("u"):rep(1019) .. i;
			local stanza = block({ ("s"):rep(1023) .. "@b.test/" .. ("\""):rep(1023) }, "urn:xmpp:reporting:spam");
			local report = report_of(stanza):text_tag("text", ("\""):rep(3000));
			for _ = 1, 10 do report:tag("stanza-id", { xmlns = "urn:xmpp:sid:0", id = ("\""):rep(512) }):up(); end
			world.reports:hear_block(stanza, name);
		end
		world.requests[1].answer(200, "{}");
		assert.truthy(#world.requests[2].data.items > 1);
		assert.truthy(#world.requests[2].body < 1024 * 1024 - 48 * 2048); -- room for domains as long as can be
	end);

	it("wait while the bridge is away, and go again under the same id", function ()
		local world = new_world();
		world.reports:hear_block(block({ "spam@b.test" }, "urn:xmpp:reporting:spam"), "alice");
		world.requests[1].answer(0, "timeout");
		world.reports:hear_block(block({ "ham@b.test" }, "urn:xmpp:reporting:spam"), "bob");
		assert.equal(1, #world.requests);
		world.timers[1].callback();
		world.requests[2].answer(503, "");
		world.timers[2].callback();
		assert.same({ 2, 4 }, { world.timers[1].seconds, world.timers[2].seconds });
		assert.same({ world.requests[1].id, world.requests[1].body }, { world.requests[3].id, world.requests[3].body });
		world.requests[3].answer(200, "{}");
		assert.equal("ham@b.test", world.requests[4].data.items[1].jid);
	end);

	it("are dropped where the bridge does not understand them", function ()
		local world = new_world();
		world.reports:hear_block(block({ "spam@b.test" }, "urn:xmpp:reporting:spam"), "alice");
		world.requests[1].answer(400, "type");
		assert.same({ "refused" }, world.counted);
		assert.truthy(world.logged[1]:find("compare the versions", 1, true));
		assert.same({}, world.timers);
	end);

	it("of one user displace nobody else's, and of all fill no memory", function ()
		local world = new_world();
		world.reports:hear_block(block({ "spam@b.test" }, "urn:xmpp:reporting:spam"), "first");
		for i = 1, 100 do world.reports:hear_block(block({ i .. "@b.test" }, "urn:xmpp:reporting:spam"), "alice"); end
		assert.equal(32, #world.reports.waiting);
		for i = 1, 2000 do world.reports:hear_block(block({ "spam@b.test" }, "urn:xmpp:reporting:spam"), "user" .. i); end
		assert.equal(1024, #world.reports.waiting);
		assert.equal(1, #world.logged);
	end);

	it("in one command are so many and no more", function ()
		local world, jids = new_world(), {};
		for i = 1, 100 do jids[i] = i .. "@b.test"; end
		world.reports:hear_block(block(jids, "urn:xmpp:reporting:spam"), "alice");
		assert.equal(15, #world.reports.waiting);
	end);

	it("survive a reload of the module", function ()
		local world = new_world();
		world.reports:hear_block(block({ "spam@b.test" }, "urn:xmpp:reporting:spam"), "alice");
		world.reports:hear_block(block({ "ham@b.test" }, "urn:xmpp:reporting:spam"), "alice");
		local saved = world.reports:save();
		assert.is_true(world.is_cancelled);
		local after = lib.new(world.deps);
		after:restore(saved);
		assert.same({ world.requests[1].id, world.requests[1].body }, { world.requests[2].id, world.requests[2].body });
		world.requests[2].answer(200, "{}");
		assert.equal("ham@b.test", world.requests[3].data.items[1].jid);
	end);

	it("go nowhere while the module is not configured", function ()
		local world = new_world("no secret");
		world.reports:hear_block(block({ "spam@b.test" }, "urn:xmpp:reporting:spam"), "alice");
		assert.same({}, world.requests);
	end);
end);
