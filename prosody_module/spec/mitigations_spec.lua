local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local mitigations = support.library "mitigations";

local now = 1795302600;

local function command(changes)
	local data = { mitigation = "m1", revision = 1, expires_at = "2026-12-31T23:59:59Z", account = "x@a.test", reason = "spam" };
	for name, value in pairs(changes or {}) do data[name] = value; end
	return mitigations.read_command(changes and changes.type or "account.suspend", data);
end

local function apply(state, changes)
	local read = assert(command(changes));
	local refusal, is_known = mitigations.check(state, read, now);
	assert.is_nil(refusal);
	assert.is_falsy(is_known);
	return mitigations.apply(state, read, now), read.key;
end

local function refusal_of(state, changes)
	return (mitigations.check(state, assert(command(changes)), changes.now or now));
end

describe("a command", function ()
	it("names its target in the normal form", function ()
		assert.same({ account = "x@a.test" }, command({ account = "X@A.test" }).target);
		assert.same({ domain = "b.test" }, command({ type = "domain.block", domain = "B.test" }).target);
		assert.same({ room = "r@muc.a.test", jid = "b.test" },
			command({ type = "room.ban", room = "R@muc.a.test", jid = "B.TEST" }).target);
	end);

	it("needs an id, a revision, an end, and a target of its kind", function ()
		local wrong = {
			{ mitigation = "" }, { mitigation = "../m" }, { mitigation = ("m"):rep(129) }, { mitigation = 5 }, { mitigation = "a b" };
			{ revision = 0 }, { revision = 1.5 }, { revision = "1" }, { revision = 2^40 };
			{ expires_at = "" }, { expires_at = 5 }, { expires_at = "2026-12-31" }, { expires_at = "2026-13-01T00:00:00Z" };
			{ expires_at = "2026-12-31T00:00:00+01:00" };
			{ reason = ("x"):rep(501) }, { reason = "\27[2J" }, { reason = 5 }, { reason = "\255" };
			{ account = "a.test" }, { account = "x@a.test/phone" }, { account = "@" }, { account = {} };
			{ type = "domain.block" }, { type = "domain.block", domain = "x@b.test" }, { type = "domain.block", domain = "b.test/x" };
			{ type = "room.ban", room = "r@muc.a.test" }, { type = "room.ban", room = "muc.a.test", jid = "x@b.test" };
			{ type = "room.ban", room = "r@muc.a.test", jid = "x@b.test/phone" };
		};
		for i, changes in ipairs(wrong) do
			local read, why = command(changes);
			assert.is_nil(read, "case " .. i);
			assert.is_string(why);
		end
	end);

	it("may leave the reason out", function ()
		local read = mitigations.read_command("domain.block",
			{ mitigation = "m1", revision = 1, expires_at = "2026-12-31T23:59:59Z", domain = "b.test" });
		assert.equal("", read.reason);
	end);
end);

describe("a time", function ()
	it("is read as UTC, whatever the machine's time zone", function ()
		assert.equal(0, mitigations.parse_time("1970-01-01T00:00:00Z"));
		assert.equal(951782400, mitigations.parse_time("2000-02-29T00:00:00Z"));
		assert.equal(1795305000, mitigations.parse_time("2026-11-21T23:50:00.123Z"));
		assert.equal(4102444800, mitigations.parse_time("2100-01-01T00:00:00Z"));
	end);

	it("is written as it is read", function ()
		for unix = 0, 5000000000, 12345678 do
			assert.equal(unix, mitigations.parse_time(mitigations.format_time(unix)));
		end
	end);
end);

describe("a mitigation", function ()
	it("makes its target a job, and leaves the state it comes from as it was", function ()
		local empty = mitigations.new_state();
		local state, key = apply(empty);
		assert.same(mitigations.new_state(), empty);
		assert.same({ key }, mitigations.list_jobs(state));
		assert.is_true(state.targets[key].is_wanted);
		assert.same({}, mitigations.list_jobs(mitigations.done(state, key)));
	end);

	it("has no table twice, which no store could keep", function ()
		local state, key = apply(mitigations.new_state());
		assert.not_equal(state.active.m1.target, state.targets[key].target);
	end);

	it("of the same id and revision is known, and changes nothing", function ()
		local state = apply(mitigations.new_state());
		local refusal, is_known = mitigations.check(state, command(), now);
		assert.is_nil(refusal);
		assert.is_true(is_known);
	end);

	it("gets a new end with a higher revision, and keeps the time it began", function ()
		local state, key = apply(mitigations.new_state());
		state = mitigations.done(state, key);
		local read = command({ revision = 2, expires_at = "2027-01-01T00:00:00Z" });
		assert.is_nil((mitigations.check(state, read, now + 5)));
		state = mitigations.apply(state, read, now + 5);
		assert.equal(now, state.active.m1.applied_at);
		assert.equal("2027-01-01T00:00:00Z", mitigations.list(state)[1].expires_at);
		assert.same({}, mitigations.list_jobs(state));
	end);

	it("is refused with an older revision, another target, or an end that has passed", function ()
		local state = apply(mitigations.new_state(), { revision = 5 });
		assert.truthy(refusal_of(state, { revision = 4 }):find("revision 5"));
		assert.truthy(refusal_of(state, { revision = 6, account = "y@a.test" }):find("another target"));
		assert.truthy(refusal_of(state, { revision = 5, account = "y@a.test" }):find("another target"));
		assert.truthy(refusal_of(mitigations.new_state(), { expires_at = "2026-01-01T00:00:00Z" }):find("passed"));
	end);

	it("is refused beyond a thousand, though a known one may change", function ()
		local state = mitigations.new_state();
		for i = 1, 1000 do state = apply(state, { mitigation = "m" .. i, account = i .. "@a.test" }); end
		assert.truthy(refusal_of(state, { mitigation = "more" }):find("1000"));
		assert.is_nil(refusal_of(state, { mitigation = "m7", revision = 2, account = "7@a.test" }));
	end);
end);

describe("an end", function ()
	it("restores the target only when no other mitigation holds it", function ()
		local state, key = apply(mitigations.new_state());
		state = mitigations.done(apply(state, { mitigation = "m2" }), key);
		state = assert(mitigations.lift(state, "m1", 2, now));
		assert.same({}, mitigations.list_jobs(state));
		assert.same({ "m2" }, mitigations.ids_of(state, key));
		state = mitigations.finish(state, "m2", "expired", now);
		assert.same({ key }, mitigations.list_jobs(state));
		assert.is_false(state.targets[key].is_wanted);
		assert.same({}, mitigations.done(state, key).targets);
	end);

	it("keeps what is to be restored where a new mitigation comes before it is", function ()
		local state, key = apply(mitigations.new_state(), { type = "room.ban", room = "r@muc.a.test", jid = "x@b.test" });
		state = mitigations.done(mitigations.remember(state, key, "member"), key);
		state = assert(mitigations.lift(state, "m1", 2, now));
		state = apply(state, { type = "room.ban", room = "r@muc.a.test", jid = "x@b.test", mitigation = "m2" });
		assert.same({ key }, mitigations.list_jobs(state));
		assert.is_true(state.targets[key].is_wanted);
		assert.equal("member", state.targets[key].before);
	end);

	it("is final for revisions up to its own", function ()
		local state = apply(mitigations.new_state());
		state = assert(mitigations.lift(state, "m1", 3, now));
		for revision = 1, 3 do assert.truthy(refusal_of(state, { revision = revision }):find("lifted")); end
		assert.is_nil(refusal_of(state, { revision = 4 }));
		state = mitigations.finish(apply(state, { revision = 4 }), "m1", "expired", now);
		assert.truthy(refusal_of(state, { revision = 4 }):find("expired"));
	end);

	it("may be told twice, and says how it ended before", function ()
		local state = mitigations.finish(apply(mitigations.new_state()), "m1", "undone", now);
		local after, status, how = mitigations.lift(state, "m1", 2, now + 5);
		assert.is_nil(status);
		assert.equal("undone", how);
		assert.same({ revision = 2, how = "undone", at = now }, after.ended.m1);
	end);

	it("needs a higher revision than the mitigation has", function ()
		local state = apply(mitigations.new_state(), { revision = 2 });
		for revision = 1, 2 do
			local after, status = mitigations.lift(state, "m1", revision, now);
			assert.is_nil(after);
			assert.equal(409, status);
		end
		local after, status = mitigations.lift(assert(mitigations.lift(state, "m1", 5, now)), "m1", 4, now);
		assert.is_nil(after);
		assert.equal(409, status);
	end);

	it("of what is unknown is remembered, lest it be applied by a command that was overtaken", function ()
		local state, status = mitigations.lift(mitigations.new_state(), "m1", 2, now);
		assert.equal(404, status);
		assert.truthy(refusal_of(state, { revision = 1 }):find("lifted"));
		local _, again = mitigations.lift(state, "m1", 2, now);
		assert.equal(404, again);
		assert.same({}, mitigations.list_ended(state));
	end);

	it("is forgotten after 90 days", function ()
		local state = mitigations.finish(apply(mitigations.new_state()), "m1", "lifted", now);
		state = apply(state, { mitigation = "m2" });
		assert.is_nil(mitigations.finish(state, "m2", "lifted", now + 91 * 86400).ended.m1);
		assert.truthy(mitigations.finish(state, "m2", "lifted", now + 89 * 86400).ended.m1);
	end);

	it("comes by itself when the time is over", function ()
		local state = apply(mitigations.new_state(), { expires_at = mitigations.format_time(now + 10) });
		state = apply(state, { mitigation = "m2" });
		assert.same({}, mitigations.list_due(state, now + 9));
		assert.same({ "m1" }, mitigations.list_due(state, now + 10));
	end);
end);

describe("a mitigation that could not be carried out", function ()
	it("is as if it had never been", function ()
		local state = apply(mitigations.new_state());
		assert.same(mitigations.new_state(), mitigations.withdraw(state, "m1"));
	end);

	it("leaves a target that others hold, and restores what had been captured", function ()
		local state, key = apply(mitigations.new_state());
		state = mitigations.done(state, key);
		assert.is_true(mitigations.withdraw(apply(state, { mitigation = "m2" }), "m2").targets[key].is_wanted);
		state = mitigations.withdraw(mitigations.remember(state, key, "member"), "m1");
		assert.is_false(state.targets[key].is_wanted);
		assert.equal("member", state.targets[key].before);
	end);
end);

describe("the list", function ()
	it("has all that was told, in order of ids", function ()
		local state = apply(mitigations.new_state(), { mitigation = "m2", type = "domain.block", domain = "b.test" });
		state = apply(state, { mitigation = "m1" });
		local rows, after = mitigations.list(state);
		assert.is_nil(after);
		assert.same({
			mitigation = "m1", revision = 1, type = "account.suspend", account = "x@a.test", reason = "spam";
			applied_at = mitigations.format_time(now), expires_at = "2026-12-31T23:59:59Z";
		}, rows[1]);
		assert.equal("b.test", rows[2].domain);
	end);

	it("comes in pages that fit into an answer", function ()
		local state = mitigations.new_state();
		for i = 1, 1000 do
			state = apply(state, { mitigation = ("m%04d"):format(i), account = i .. "@a.test", reason = ("x"):rep(500) });
		end
		local seen, after = 0, nil;
		repeat
			local rows, next_after = mitigations.list(state, after);
			assert.equal(("m%04d"):format(seen + 1), rows[1].mitigation);
			seen, after = seen + #rows, next_after;
			assert.is_true(#rows > 100);
		until not after;
		assert.equal(1000, seen);
	end);

	it("tells what ended, the newest first", function ()
		local state = mitigations.new_state();
		for i = 1, 3 do state = apply(state, { mitigation = "m" .. i }); end
		state = mitigations.finish(state, "m2", "expired", now + 1);
		state = mitigations.finish(state, "m1", "undone", now + 2);
		local rows = mitigations.list_ended(state);
		assert.equal(2, #rows);
		assert.equal("m1 undone", rows[1].mitigation .. " " .. rows[1].how);
		assert.equal("m2 expired", rows[2].mitigation .. " " .. rows[2].how);
	end);
end);

describe("whatever comes in whatever order", function ()
	it("a target is mitigated while an id holds it, and revisions only grow", function ()
		local state, held = mitigations.new_state(), {};
		local seed = 7;
		local function random(most)
			seed = (seed * 16807) % 2147483647;
			return seed % most + 1;
		end
		local highest = {};
		for _ = 1, 3000 do
			local id, revision = "m" .. random(5), random(12);
			local account = ("u%d@a.test"):format((id:byte(2) - 48) % 2);
			if random(2) == 1 then
				local read = command({ mitigation = id, revision = revision, account = account });
				local refusal, is_known = mitigations.check(state, read, now);
				if revision < (highest[id] or 0) then assert.is_string(refusal); end
				if not refusal and not is_known then
					state = mitigations.apply(state, read, now);
					held[id], highest[id] = account, revision;
				end
			else
				local after = mitigations.lift(state, id, revision, now);
				if after then
					state = after;
					highest[id] = math.max(highest[id] or 0, revision);
					held[id] = nil;
				end
			end
			for _, key in ipairs(mitigations.list_jobs(state)) do
				if random(2) == 1 then state = mitigations.done(state, key); end
			end
			for name = 0, 1 do
				local wanted = ("u%d@a.test"):format(name);
				local is_held = false;
				for _, other in pairs(held) do is_held = is_held or other == wanted; end
				local target = state.targets["account.suspend " .. wanted];
				assert.equal(is_held, target ~= nil and target.is_wanted);
			end
		end
	end);
end);
