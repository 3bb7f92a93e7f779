local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local mitigations = support.library "mitigations";

local function new_world(is_running)
	local world = { printed = {}, stores = {}, hosts = { "a.test", "b.test" }, mitigations = mitigations };
	for _, host in ipairs(world.hosts) do
		local store = { wishes = {}, state = mitigations.new_state() };
		function store.read() return store.state; end
		function store.is_wished(id) return store.wishes[id] ~= nil; end
		function store.wish(id)
			if store.is_full then return nil, "disk full"; end
			store.wishes[id] = true;
			if is_running then store.state.active[id] = nil; end
			return true;
		end
		world.stores[host] = store;
	end
	function world.print(text) table.insert(world.printed, text); end
	function world.wait(done) return done(); end
	function world.run(...)
		return world.run_with({ ... });
	end
	function world.run_with(words)
		world.printed = {};
		return support.library("prosodyctl").run(world, words), table.concat(world.printed, "\n");
	end
	function world.suspend(host, id, reason)
		local data = { mitigation = id, revision = 1, expires_at = "2026-12-31T23:59:59Z", account = "x@" .. host, reason = reason };
		local store = world.stores[host];
		store.state = mitigations.apply(store.state, assert(mitigations.read_command("account.suspend", data)), 1795302600);
	end
	return world;
end

describe("prosodyctl mod_incident_bridge list", function ()
	it("shows the mitigations of all hosts, or of one", function ()
		local world = new_world();
		assert.same({ 0, "No mitigations" }, { world.run("list") });
		world.suspend("a.test", "m1", "spam");
		world.suspend("b.test", "m2");
		assert.same({ 0, "a.test  m1  account.suspend x@a.test  until 2026-12-31T23:59:59Z  (spam)\n"
			.. "b.test  m2  account.suspend x@b.test  until 2026-12-31T23:59:59Z" }, { world.run("list") });
		local code, text = world.run("list", "b.test");
		assert.equal(0, code);
		assert.is_nil(text:find("m1"));
	end);

	it("lets nothing steer the terminal", function ()
		local world = new_world();
		world.suspend("a.test", "m1", "a\u{202e}b\u{2066}c\u{61c}d\tz");
		assert.truthy(select(2, world.run("list")):find("(a?b?c?d?z)", 1, true));
	end);
end);

describe("prosodyctl mod_incident_bridge undo", function ()
	it("leaves a wish, and says whether a running Prosody has fulfilled it", function ()
		for is_running, words in pairs { [true] = "is undone on a.test", [false] = "will be undone on a.test" } do
			local world = new_world(is_running);
			world.suspend("a.test", "m1");
			local code, text = world.run("undo", "m1");
			assert.equal(0, code);
			assert.truthy(text:find(words, 1, true));
			assert.is_true(world.stores["a.test"].wishes.m1);
			local _, listed = world.run("list");
			assert.equal(not is_running, listed:find("to be undone", 1, true) ~= nil);
		end
	end);

	it("wants to know the host where two have that id", function ()
		local world = new_world(true);
		world.suspend("a.test", "m1");
		world.suspend("b.test", "m1");
		assert.equal(2, (world.run("undo", "m1")));
		assert.equal(0, (world.run("undo", "m1", "b.test")));
		assert.is_nil(world.stores["a.test"].wishes.m1);
	end);

	it("says what is not known, not an id, or not to be written", function ()
		local world = new_world();
		assert.equal(1, (world.run("undo", "m1")));
		assert.equal(2, (world.run("undo", "../m1")));
		assert.equal(2, (world.run("undo", "m1", "c.test")));
		world.suspend("a.test", "m1");
		world.stores["a.test"].is_full = true;
		assert.equal(1, (world.run("undo", "m1")));
	end);
end);

describe("prosodyctl mod_incident_bridge", function ()
	it("says how it is used", function ()
		for _, words in ipairs { {}, { "undo" }, { "list", "a.test", "b.test" }, { "help" }, { "undo", "m1", "a.test", "x" } } do
			local code, text = new_world().run_with(words);
			assert.equal(2, code);
			assert.truthy(text:find("usage:", 1, true));
		end
	end);
end);
