-- Carries out mitigations: what is decided is stored first, then done, then told. What could not be done, or was
-- interrupted, is a job in the stored state and is done at the next look.

local array = require "util.array";
local xpcall = require "util.xpcall".xpcall;

local not_stored = "this server could not store it: see Prosody's log";

local mitigator_methods = {};
local mitigator_mt = { __index = mitigator_methods };

-- deps: mitigations (the library); store, undo_store: get(key), set(key, value) -> whether it worked, undo_store also
-- users() -> iterator; effects: type -> check, carry_out, restore, and capture where there is something to restore;
-- clock() -> Unix seconds; log(level, text, ...).
local function new(deps)
	return setmetatable({ deps = deps, state = nil, wanted = {}, failing = {}, problem = nil }, mitigator_mt);
end

local function rebuild(self)
	self.wanted = {};
	for key, target in pairs(self.state.targets) do
		if target.is_wanted then self.wanted[key] = true; end
	end
end

-- Whether the state is now stored; only then is it in force.
local function commit(self, state)
	local is_error_free, ok, why = pcall(self.deps.store.set, self.deps.store, nil, state);
	if not is_error_free or not ok then
		self.deps.log("error", "Could not store the mitigations (%s): check Prosody's storage",
			tostring(is_error_free and why or ok));
		return false;
	end
	self.state = state;
	rebuild(self);
	return true;
end

-- Reads what is stored. Without a store that keeps things nothing can be promised, so then every command is refused.
function mitigator_methods:open()
	local state, why = self.deps.store:get(nil);
	if not state and why then
		self.problem = ("the mitigations cannot be read (%s)"):format(tostring(why));
	elseif not state then
		local fresh = self.deps.mitigations.new_state();
		local ok = self.deps.store:set(nil, fresh);
		state = ok and self.deps.store:get(nil);
		if not state then self.problem = "this host's storage keeps nothing, so mitigations would not survive a restart"; end
	elseif state.format ~= 1 then
		self.problem = ("the mitigations are stored in format %s, which this module does not know"):format(tostring(state.format));
	end
	self.state = not self.problem and state or self.deps.mitigations.new_state();
	rebuild(self);
	if self.problem then self.deps.log("error", "No mitigation is in force: %s", self.problem); end
end

-- How many mitigations are active, or nil where they cannot be stored.
function mitigator_methods:count()
	if self.problem then return nil; end
	local count = 0;
	for _ in pairs(self.state.active) do count = count + 1; end
	return count;
end

function mitigator_methods:has(type, name)
	return self.wanted[type .. " " .. name] == true;
end

-- One target's job; nil and why if it was refused, false if it must wait, else what came of it.
local function work(self, key)
	local lib, target = self.deps.mitigations, self.state.targets[key];
	local effect = self.deps.effects[target.type];
	if target.is_wanted and target.before == nil and effect.capture then
		local before = effect:capture(target.target);
		if before ~= nil then
			if not commit(self, lib.remember(self.state, key, before)) then return false; end
			target = self.state.targets[key];
		end
	end
	local outcome, why;
	if target.is_wanted then
		outcome, why = effect:carry_out(target.target);
	else
		outcome = effect:restore(target.target, target.before);
	end
	if not outcome then return outcome, why; end
	if not commit(self, lib.done(self.state, key)) then return false; end
	return outcome;
end

-- The content of an answer, or nil, why not, and the HTTP status.
function mitigator_methods:apply(type, data)
	local lib, now = self.deps.mitigations, self.deps.clock();
	if self.problem then return nil, self.problem, 409; end
	local command, why = lib.read_command(type, data);
	if not command then return nil, why, 400; end
	local refusal, is_known = lib.check(self.state, command, now);
	if refusal then return nil, refusal, 409; end
	if not is_known then
		local status;
		status, why = self.deps.effects[type]:check(command.target);
		if status then return nil, why, status; end
		if not commit(self, lib.apply(self.state, command, now)) then return nil, not_stored, 503; end
	end
	local outcome = true;
	if not self.state.targets[command.key].is_done then
		outcome, why = work(self, command.key);
		if outcome == nil then
			commit(self, lib.withdraw(self.state, command.id));
			return nil, why, 409;
		end
	end
	self.deps.log("info", "%s %s is in force until %s (%s)", command.key, command.id, lib.format_time(command.expires_at),
		is_known and "already" or "new");
	return {
		mitigation = command.id, revision = command.revision, is_new = not is_known, is_done = outcome and true or false;
		applied_at = lib.format_time(self.state.active[command.id].applied_at);
		together_with = self:others(command.key, command.id);
	};
end

-- The other ids that keep a target mitigated.
function mitigator_methods:others(key, id)
	local others = array();
	for _, other in ipairs(self.deps.mitigations.ids_of(self.state, key)) do
		if other ~= id then others:push(other); end
	end
	return others;
end

-- Ends a mitigation whose end is already stored: restores the target if nothing else keeps it mitigated.
local function wind_up(self, key, id)
	local detail = { still_mitigated_by = self:others(key, id), is_done = true };
	local target = self.state.targets[key];
	if not target or target.is_done then return detail; end
	local outcome = work(self, key);
	if not outcome then
		detail.is_done = false;
	else
		for name, value in pairs(outcome) do detail[name] = value; end
	end
	return detail;
end

function mitigator_methods:lift(data)
	local lib = self.deps.mitigations;
	if self.problem then return nil, self.problem, 409; end
	local head, why = lib.read_head(data);
	if not head then return nil, why, 400; end
	local known = self.state.active[head.id];
	local state, status, reason = lib.lift(self.state, head.id, head.revision, self.deps.clock());
	if not state then return nil, reason, status; end
	if not commit(self, state) then return nil, not_stored, 503; end
	if status then return nil, reason, status; end
	local detail = known and wind_up(self, known.key, head.id) or { is_done = true, still_mitigated_by = array() };
	if known then self.deps.log("info", "%s %s is lifted", known.key, head.id); end
	detail.mitigation, detail.revision, detail.was = head.id, head.revision, known and "active" or reason;
	return detail;
end

function mitigator_methods:list(data)
	local lib = self.deps.mitigations;
	if self.problem then return nil, self.problem, 409; end
	local after = lib.check_id(data.after) and data.after or nil;
	local rows, next_after = lib.list(self.state, after);
	return { mitigations = array(rows), next = next_after, ended = array(not after and lib.list_ended(self.state) or {}) };
end

-- Ends one without the bridge: its time is over, or somebody typed undo.
local function end_one(self, id, how)
	local mitigation = self.state.active[id];
	if not mitigation then return true; end
	if not commit(self, self.deps.mitigations.finish(self.state, id, how, self.deps.clock())) then return false; end
	wind_up(self, mitigation.key, id);
	self.deps.log("info", "%s %s is %s", mitigation.key, id, how);
	return true;
end

-- prosodyctl is another process. It writes nothing but wishes, one for each id, and only here are they fulfilled: so
-- no two processes ever write the same thing.
local function fulfil_undos(self)
	local wishes = {};
	for key in self.deps.undo_store:users() do wishes[#wishes + 1] = key; end
	for _, key in ipairs(wishes) do
		local id = self.deps.mitigations.read_wish_key(key);
		if id and self.deps.undo_store:get(key) and end_one(self, id, "undone") then self.deps.undo_store:set(key, nil); end
	end
end

-- What fails must neither keep the rest waiting nor fill the log: it is told once, until it went well.
local function try(self, what, action, ...)
	local ok, why = xpcall(action, debug.traceback, self, ...);
	if not ok and not self.failing[what] then
		self.deps.log("error", "Could not look after %s, which is tried again every few seconds: %s", what, why);
	end
	self.failing[what] = not ok or nil;
end

-- Looks after everything that nobody asks for: wishes of prosodyctl, expiry, and jobs that had to wait.
function mitigator_methods:look()
	if self.problem then return; end
	try(self, "the wishes of prosodyctl", fulfil_undos);
	for _, id in ipairs(self.deps.mitigations.list_due(self.state, self.deps.clock())) do try(self, id, end_one, id, "expired"); end
	for _, key in ipairs(self.deps.mitigations.list_jobs(self.state)) do
		if self.state.targets[key] then try(self, key, work, key); end
	end
end

-- A new room has the name of one from which somebody is banned: banned there, too.
function mitigator_methods:renew_room(room_jid)
	for key, target in pairs(self.state.targets) do
		if target.is_wanted and target.target.room == room_jid then
			commit(self, self.deps.mitigations.renew(self.state, key));
		end
	end
end

return { new = new };
