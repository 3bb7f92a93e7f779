local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local serialization = require "util.serialization";
local mitigations = support.library "mitigations";

local start = 1795302600;
local key = "account.suspend x@a.test";

-- Keeps things as Prosody does: as text, so that nothing is shared with who stored it.
local function new_store(world)
	local kept = {};
	return {
		kept = kept;
		get = function (_, name)
			if world.unreadable then return nil, "unreadable"; end
			return kept[name or ""] and serialization.deserialize(kept[name or ""]) or nil;
		end;
		set = function (_, name, value)
			if world.full then return nil, "disk full"; end
			if world.forgets then return true; end
			kept[name or ""] = value and serialization.serialize(value) or nil;
			table.insert(world.happened, "stored");
			return true;
		end;
		users = function () return pairs(kept); end;
	};
end

local function new_world()
	local world = { time = start, happened = {}, logged = {}, before = "member" };
	world.effect = {
		check = function () return world.status, world.status and "refused" or nil; end;
		capture = function () return world.before; end;
		carry_out = function ()
			table.insert(world.happened, "done");
			if world.crash then error("crash"); end
			return world.outcome == nil and true or world.outcome, world.why;
		end;
		restore = function (_, _, before)
			if world.is_away then return false; end
			table.insert(world.happened, "restored " .. tostring(before));
			return { is_gone = false };
		end;
	};
	world.store, world.undo_store = new_store(world), new_store(world);
	function world.open()
		world.mitigator = support.library("mitigator").new {
			mitigations = mitigations, store = world.store, undo_store = world.undo_store;
			effects = { ["account.suspend"] = world.effect };
			clock = function () return world.time; end;
			log = function (level, text, ...) table.insert(world.logged, level .. ": " .. text:format(...)); end;
		};
		world.mitigator:open();
		world.happened = {};
	end
	function world.apply(id, revision, seconds)
		return world.mitigator:apply("account.suspend", {
			mitigation = id or "m1", revision = revision or 1, account = "x@a.test";
			expires_at = mitigations.format_time(world.time + (seconds or 3600));
		});
	end
	function world.lift(id, revision) return world.mitigator:lift({ mitigation = id or "m1", revision = revision or 2 }); end
	function world.is_suspended() return world.mitigator:has("account.suspend", "x@a.test"); end
	function world.what_happened()
		local text = table.concat(world.happened, ", ");
		world.happened = {};
		return text;
	end
	world.open();
	return world;
end

describe("a mitigation", function ()
	it("is stored, with what an undo restores, before it is done, and told after that", function ()
		local world = new_world();
		local answer = world.apply();
		assert.is_true(answer.is_new);
		assert.is_true(answer.is_done);
		assert.is_true(world.is_suspended());
		assert.equal("stored, stored, done, stored", world.what_happened());
	end);

	it("is not done where it cannot be stored", function ()
		local world = new_world();
		world.full = true;
		local answer, why, status = world.apply();
		assert.is_nil(answer);
		assert.truthy(why:find("store"));
		assert.equal(503, status);
		assert.equal("", world.what_happened());
		assert.is_false(world.is_suspended());
		world.full = false;
		assert.truthy(world.apply().is_new);
	end);

	it("told again is done once, and answered as it was", function ()
		local world = new_world();
		world.apply();
		world.what_happened();
		local again = world.apply();
		assert.is_false(again.is_new);
		assert.equal("", world.what_happened());
	end);

	it("that a crash interrupted is done when it is told again", function ()
		local world = new_world();
		world.crash = true;
		assert.is_false((pcall(world.apply)));
		world.crash = false;
		world.open();
		assert.is_true(world.is_suspended());
		assert.is_true(world.apply().is_done);
		assert.equal("done, stored", world.what_happened());
	end);

	it("that a crash interrupted is done at the next look, too", function ()
		local world = new_world();
		world.crash = true;
		pcall(world.apply);
		world.crash = false;
		world.open();
		world.mitigator:look();
		assert.equal("done, stored", world.what_happened());
		world.mitigator:look();
		assert.equal("", world.what_happened());
	end);

	it("that is refused while it is done leaves nothing behind", function ()
		local world = new_world();
		world.outcome, world.why, world.before = nil, "no", nil;
		world.effect.carry_out = function () return nil, "no"; end;
		local _, why, status = world.apply();
		assert.same({ "no", 409 }, { why, status });
		assert.is_false(world.is_suspended());
		assert.equal(0, world.mitigator:count());
		world.open();
		assert.is_false(world.is_suspended());
	end);

	it("that must wait says so, and is done later", function ()
		local world = new_world();
		world.outcome = false;
		assert.is_false(world.apply().is_done);
		world.outcome = nil;
		world.what_happened();
		world.mitigator:look();
		assert.equal("done, stored", world.what_happened());
	end);

	it("is refused for its target, and for what it lacks", function ()
		local world = new_world();
		for _, status in ipairs { 404, 409 } do
			world.status = status;
			local _, why, answered = world.apply();
			assert.same({ "refused", status }, { why, answered });
		end
		world.status = nil;
		assert.equal(400, select(3, world.mitigator:apply("account.suspend", {})));
		assert.equal(400, select(3, world.mitigator:lift({})));
		assert.equal("", world.what_happened());
	end);

	it("survives a restart", function ()
		local world = new_world();
		world.apply();
		world.open();
		assert.is_true(world.is_suspended());
		assert.equal("m1", world.mitigator:list({}).mitigations[1].mitigation);
	end);
end);

describe("an end", function ()
	it("is stored before the target is restored", function ()
		local world = new_world();
		world.apply();
		world.what_happened();
		local detail = world.lift();
		assert.equal("active", detail.was);
		assert.is_true(detail.is_done);
		assert.equal("stored, restored member, stored", world.what_happened());
		assert.is_false(world.is_suspended());
	end);

	it("restores nothing while another mitigation holds the target", function ()
		local world = new_world();
		world.apply("m1");
		assert.same({ "m1" }, { world.apply("m2").together_with[1] });
		world.what_happened();
		assert.same({ "m2" }, { world.lift("m1").still_mitigated_by[1] });
		assert.equal("stored", world.what_happened());
		assert.is_true(world.is_suspended());
		world.lift("m2");
		assert.is_false(world.is_suspended());
	end);

	it("that must wait is in force at once, and the rest is done later", function ()
		local world = new_world();
		world.apply();
		world.is_away = true;
		assert.is_false(world.lift().is_done);
		assert.is_false(world.is_suspended());
		world.open();
		world.is_away = false;
		world.mitigator:look();
		assert.equal("restored member, stored", world.what_happened());
	end);

	it("comes when the time is over, also if that was while Prosody was away", function ()
		local world = new_world();
		world.apply("m1", 1, 60);
		world.time = start + 59;
		world.mitigator:look();
		assert.is_true(world.is_suspended());
		world.time = start + 60;
		world.open();
		world.mitigator:look();
		assert.is_false(world.is_suspended());
		assert.equal("expired", world.lift().was);
	end);

	it("is told as it was, and unknown where there is none", function ()
		local world = new_world();
		world.apply();
		world.lift();
		assert.equal("lifted", world.lift().was);
		assert.equal(409, select(3, world.apply("m1", 2)));
		assert.equal(404, select(3, world.lift("never")));
	end);

	it("is no end where it cannot be stored", function ()
		local world = new_world();
		world.apply();
		world.full = true;
		assert.equal(503, select(3, world.lift()));
		assert.is_true(world.is_suspended());
	end);
end);

describe("a wish of prosodyctl", function ()
	it("is fulfilled once, and forgotten", function ()
		local world = new_world();
		world.apply();
		world.undo_store:set("@m1", { at = 1 });
		world.undo_store:set("@unknown", { at = 1 });
		world.mitigator:look();
		assert.is_false(world.is_suspended());
		assert.same({}, world.undo_store.kept);
		assert.equal("undone", world.lift().was);
	end);

	it("stays while it cannot be fulfilled", function ()
		local world = new_world();
		world.apply();
		world.undo_store:set("@m1", { at = 1 });
		world.full = true;
		world.mitigator:look();
		assert.is_true(world.is_suspended());
		world.full = false;
		world.mitigator:look();
		assert.is_false(world.is_suspended());
	end);
end);

describe("a look", function ()
	local function apply_to(world, id, account)
		return world.mitigator:apply("account.suspend", {
			mitigation = id, revision = 1, account = account, expires_at = mitigations.format_time(world.time + 60);
		});
	end

	it("goes on where one target fails, and tells of it once until it went well", function ()
		local world = new_world();
		world.outcome = false;
		for _, name in ipairs { "a", "b", "c" } do apply_to(world, name, name .. "@a.test"); end
		world.effect.carry_out = function (_, target)
			if target.account == "a@a.test" and world.crash then error("crash"); end
			return true;
		end;
		world.crash, world.logged = true, {};
		world.mitigator:look();
		world.mitigator:look();
		assert.equal(1, #world.logged);
		assert.truthy(world.logged[1]:find("a@a.test", 1, true) and world.logged[1]:find("crash", 1, true));
		assert.is_true(world.mitigator.state.targets["account.suspend c@a.test"].is_done);
		world.crash = false;
		world.mitigator:look();
		assert.is_true(world.mitigator.state.targets["account.suspend a@a.test"].is_done);
		assert.same({}, world.mitigator.failing);
	end);

	it("ends what is due where prosodyctl's wishes cannot be read", function ()
		local world = new_world();
		world.apply();
		world.undo_store.users = function () error("the database is away"); end;
		world.time, world.logged = world.time + 3600, {};
		world.mitigator:look();
		world.mitigator:look();
		assert.is_false(world.is_suspended());
		assert.equal(2, #world.logged); -- that failure, and the end
	end);
end);

describe("a host whose storage", function ()
	local function refuses_everything(world)
		assert.equal(409, select(3, world.apply()));
		assert.equal(409, select(3, world.lift()));
		assert.equal(409, select(3, world.mitigator:list({})));
		assert.is_nil(world.mitigator:count());
		world.mitigator:look();
	end

	it("keeps nothing mitigates nothing", function ()
		local world = new_world();
		world.store.kept[""], world.forgets = nil, true;
		world.open();
		refuses_everything(world);
		assert.truthy(world.logged[1]:find("restart"));
	end);

	it("cannot be read mitigates nothing, and overwrites nothing", function ()
		local world = new_world();
		world.apply();
		world.unreadable = true;
		world.open();
		refuses_everything(world);
		world.unreadable = false;
		world.open();
		assert.is_true(world.is_suspended());
	end);

	it("was written by a newer module mitigates nothing, and overwrites nothing", function ()
		local world = new_world();
		world.store:set(nil, { format = 2 });
		world.open();
		refuses_everything(world);
		assert.equal(2, world.store:get(nil).format);
	end);
end);

describe("a room made anew", function ()
	it("is a job again, and what was before is asked again", function ()
		local world = new_world();
		world.apply();
		world.mitigator.state.targets[key].target.room = "r@muc.a.test";
		world.before = "owner";
		world.mitigator:renew_room("other@muc.a.test");
		world.mitigator:renew_room("r@muc.a.test");
		world.what_happened();
		world.mitigator:look();
		assert.equal("stored, done, stored", world.what_happened());
		world.lift();
		assert.truthy(world.what_happened():find("restored owner"));
	end);
end);
