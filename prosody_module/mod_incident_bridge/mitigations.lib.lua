-- Which mitigations this host has: ids, revisions, expiry, and which targets they keep mitigated. Nothing is done here:
-- a state goes in, a new state comes out, and what must be done to a target is a job in it until `done` is told.

local jid = require "util.jid";
local is_utf8 = require "util.encodings".utf8.valid;

local max_active = 1000;
local max_reason_bytes = 500;
local max_page_bytes = 512 * 1024;
local max_ended_listed = 200;
local keep_ended_seconds = 90 * 24 * 3600;
local max_ended = 10000;
local id_pattern = "^%w[%w_.-]*$";
local max_id_bytes = 128;

local days_before_month = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };

-- Days since 1970-01-01; util.datetime asks the local time zone, which is wrong where the clocks changed in between.
local function count_days(year, month, day)
	local y = month > 2 and year or year - 1;
	local leaps = math.floor(y / 4) - math.floor(y / 100) + math.floor(y / 400) - 477;
	return (year - 1970) * 365 + leaps + days_before_month[month] + day - 1;
end

-- Unix time of an RFC 3339 time in UTC, or nil.
local function parse_time(text)
	if type(text) ~= "string" then return nil; end
	local year, month, day, hour, minute, second = text:match("^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)%.?%d*Z$");
	if not year then return nil; end
	year, month, day = tonumber(year), tonumber(month), tonumber(day);
	if month < 1 or month > 12 or day < 1 or day > 31 then return nil; end
	return count_days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
end

local function format_time(unix)
	return os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(unix));
end

-- The JID in its normal form without a resource, its node and its domain; or nil.
local function read_bare(text)
	local prepared = type(text) == "string" and jid.prep(text);
	local node, domain, resource = jid.split(prepared or nil);
	if domain and not resource then return prepared, node, domain; end
end

-- For each type how its target is read, or nil and what is wrong with it.
local target_readers = {};

target_readers["account.suspend"] = function (data)
	local account, node = read_bare(data.account);
	if not node then return nil, "account is not a JID like user@example.org"; end
	return { account = account };
end

target_readers["domain.block"] = function (data)
	local domain, node = read_bare(data.domain);
	if not domain or node then return nil, "domain is not a domain"; end
	return { domain = domain };
end

target_readers["room.ban"] = function (data)
	local room, room_node = read_bare(data.room);
	if not room_node then return nil, "room is not a JID like room@rooms.example.org"; end
	local banned = read_bare(data.jid);
	if not banned then return nil, "jid is neither a bare JID nor a domain"; end
	return { room = room, jid = banned };
end

-- What tells one target from another; no domain or node contains a space.
local function key_of(type, target)
	if target.room then return type .. " " .. target.room .. " " .. target.jid; end
	return type .. " " .. (target.account or target.domain);
end

local function check_id(id)
	return type(id) == "string" and #id <= max_id_bytes and id:find(id_pattern) ~= nil;
end

-- Where a wish is stored. What a store keeps under a user's name is deleted with that user, so no user can have this one;
-- the state itself is stored under no name at all.
local function wish_key(id)
	return "@" .. id;
end

local function read_wish_key(key)
	return key:match("^@(.+)$");
end

local function read_revision(revision)
	if type(revision) ~= "number" or revision < 1 or revision > 2^31 or revision % 1 ~= 0 then return nil; end
	return revision;
end

local function check_reason(reason)
	if reason == nil or reason == "" then return true; end
	return type(reason) == "string" and #reason <= max_reason_bytes and is_utf8(reason) and not reason:find("[\0-\8\11-\31\127]");
end

-- The id and revision every command has, or nil and what is wrong.
local function read_head(data)
	if not check_id(data.mitigation) then return nil, "mitigation is not an id of up to 128 letters, digits and _.-"; end
	local revision = read_revision(data.revision);
	if not revision then return nil, "revision is not a whole number from 1 on"; end
	return { id = data.mitigation, revision = revision };
end

-- What account.suspend, domain.block or room.ban asks for, or nil and what is wrong with it.
local function read_command(type, data)
	local command, why = read_head(data);
	if not command then return nil, why; end
	command.expires_at = parse_time(data.expires_at);
	if not command.expires_at then return nil, "expires_at is not a time like 2026-12-31T23:59:59Z"; end
	if not check_reason(data.reason) then
		return nil, ("reason is over %d bytes, or has control characters"):format(max_reason_bytes);
	end
	command.target, why = target_readers[type](data);
	if not command.target then return nil, why; end
	command.type, command.reason, command.key = type, data.reason or "", key_of(type, command.target);
	return command;
end

-- The target an impact.preview asks about, with the type of mitigation it is for; or nil and what is wrong.
local function read_target(data)
	local type = data.account ~= nil and "account.suspend" or data.domain ~= nil and "domain.block"
		or data.room ~= nil and "room.ban";
	if not type then return nil, "account, domain, or room and jid are missing"; end
	local target, why = target_readers[type](data);
	if not target then return nil, why; end
	return target, type, key_of(type, target);
end

-- active: id -> type, revision, key, target, expires_at, applied_at, reason.
-- ended: id -> revision, how, at; so that a revision from before the end changes nothing.
-- targets: key -> type, target, is_wanted, is_done, before (what an undo restores; nil until it is known).
local function new_state()
	return { format = 1, active = {}, ended = {}, targets = {} };
end

local function copy(original)
	local copied = {};
	for key, value in pairs(original) do copied[key] = value; end
	return copied;
end

-- A state that may be changed without changing the one it comes from.
local function fork(state)
	return { format = 1, active = copy(state.active), ended = copy(state.ended), targets = copy(state.targets) };
end

local function change_target(state, key, changes)
	local target = copy(state.targets[key]);
	for name, value in pairs(changes) do target[name] = value; end
	state.targets[key] = target;
end

-- The ids that keep a target mitigated, sorted.
local function ids_of(state, key)
	local ids = {};
	for id, mitigation in pairs(state.active) do
		if mitigation.key == key then ids[#ids + 1] = id; end
	end
	table.sort(ids);
	return ids;
end

local function has_room(state)
	local count = 0;
	for _ in pairs(state.active) do count = count + 1; end
	return count < max_active;
end

local function check_known(known, command)
	if known.key ~= command.key then return nil, "this mitigation has another target"; end
	if command.revision < known.revision then
		return nil, ("revision %d of this mitigation is known already"):format(known.revision);
	end
	return true;
end

-- Why this may not be applied to this state, whatever the target; nil if it may. The second value is true where the very
-- same revision is applied already.
local function check(state, command, now)
	local known, ended = state.active[command.id], state.ended[command.id];
	if known then
		local ok, why = check_known(known, command);
		if not ok then return why; end
		if known.revision == command.revision then return nil, true; end
	end
	if ended and command.revision <= ended.revision then
		local how = ended.how == "unknown" and "lifted" or ended.how;
		return ("revision %d of this mitigation was the last: it is %s"):format(ended.revision, how);
	end
	if command.expires_at <= now then return "expires_at has passed"; end
	if not known and not has_room(state) then return ("this host has %d mitigations, and takes no more"):format(max_active); end
end

-- The state with a mitigation that `check` found nothing against. A new target becomes a job.
local function apply(state, command, now)
	local known = state.active[command.id];
	state = fork(state);
	state.ended[command.id] = nil;
	state.active[command.id] = {
		type = command.type, revision = command.revision, key = command.key, target = command.target, reason = command.reason;
		expires_at = command.expires_at, applied_at = known and known.applied_at or now;
	};
	local target = state.targets[command.key];
	if not target then
		-- a copy: what is in a store has no table twice
		state.targets[command.key] = { type = command.type, target = copy(command.target), is_wanted = true, is_done = false };
	elseif not target.is_wanted then
		change_target(state, command.key, { is_wanted = true, is_done = false });
	end
	return state;
end

local function forget_old(state, now)
	local count = 0;
	for id, ended in pairs(state.ended) do
		count = count + 1;
		if now - ended.at > keep_ended_seconds then state.ended[id] = nil; end
	end
	if count <= max_ended then return; end
	local ids = {};
	for id in pairs(state.ended) do ids[#ids + 1] = id; end
	table.sort(ids, function (a, b) return state.ended[a].at < state.ended[b].at; end);
	for i = 1, #ids - max_ended do state.ended[ids[i]] = nil; end
end

-- The state without this mitigation; a target that nothing keeps mitigated any longer becomes a job.
local function finish(state, id, how, now, revision)
	local mitigation = state.active[id];
	state = fork(state);
	state.active[id] = nil;
	state.ended[id] = { revision = revision or mitigation and mitigation.revision, how = how, at = now };
	forget_old(state, now);
	if mitigation and not ids_of(state, mitigation.key)[1] then
		change_target(state, mitigation.key, { is_wanted = false, is_done = false });
	end
	return state;
end

-- The state as if this mitigation had never been applied, because it could not be.
local function withdraw(state, id)
	local key = state.active[id].key;
	state = fork(state);
	state.active[id] = nil;
	if ids_of(state, key)[1] then return state; end
	if state.targets[key].before == nil then
		state.targets[key] = nil;
	else
		change_target(state, key, { is_wanted = false, is_done = false });
	end
	return state;
end

-- The state after mitigation.lift, or nil, the HTTP status and why not. The third value is how it had ended before.
-- What is unknown is remembered as ended too, lest it be applied by a command that was overtaken.
local function lift(state, id, revision, now)
	local known, ended = state.active[id], state.ended[id];
	if known then
		if revision <= known.revision then
			return nil, 409, ("revision %d of this mitigation is known already"):format(known.revision);
		end
		return finish(state, id, "lifted", now, revision);
	end
	if ended and ended.how ~= "unknown" then
		if revision < ended.revision then return nil, 409, ("revision %d ended this mitigation"):format(ended.revision); end
		return finish(state, id, ended.how, ended.at, revision), nil, ended.how;
	end
	local last = math.max(revision, ended and ended.revision or revision);
	return finish(state, id, "unknown", now, last), 404, "no such mitigation";
end

-- The ids whose time is over.
local function list_due(state, now)
	local ids = {};
	for id, mitigation in pairs(state.active) do
		if mitigation.expires_at <= now then ids[#ids + 1] = id; end
	end
	table.sort(ids);
	return ids;
end

-- The keys of the targets at which something is to be done.
local function list_jobs(state)
	local keys = {};
	for key, target in pairs(state.targets) do
		if not target.is_done then keys[#keys + 1] = key; end
	end
	table.sort(keys);
	return keys;
end

-- The state in which a target's job is done; one that is no longer mitigated is forgotten.
local function done(state, key)
	state = fork(state);
	if state.targets[key].is_wanted then
		change_target(state, key, { is_done = true });
	else
		state.targets[key] = nil;
	end
	return state;
end

-- The state that knows what an undo of this target restores.
local function remember(state, key, before)
	state = fork(state);
	change_target(state, key, { before = before });
	return state;
end

-- The state in which a target is mitigated anew: what was mitigated is gone, and something else has its name.
local function renew(state, key)
	state = fork(state);
	local target = copy(state.targets[key]);
	target.before, target.is_done = nil, false;
	state.targets[key] = target;
	return state;
end

local function describe(id, mitigation)
	local row = copy(mitigation.target);
	row.mitigation, row.revision, row.type = id, mitigation.revision, mitigation.type;
	row.expires_at, row.applied_at = format_time(mitigation.expires_at), format_time(mitigation.applied_at);
	row.reason = mitigation.reason;
	return row;
end

local function bytes_of(row)
	local bytes = 200;
	for _, value in pairs(row) do bytes = bytes + (type(value) == "string" and #value * 2 or 16); end
	return bytes;
end

-- The mitigations after the id `after` in order of ids, as many as one answer takes; and the last id if there are more.
local function list(state, after)
	local ids, rows, bytes = {}, {}, 0;
	for id in pairs(state.active) do
		if not after or id > after then ids[#ids + 1] = id; end
	end
	table.sort(ids);
	for _, id in ipairs(ids) do
		local row = describe(id, state.active[id]);
		bytes = bytes + bytes_of(row);
		if bytes > max_page_bytes then return rows, rows[#rows].mitigation; end
		rows[#rows + 1] = row;
	end
	return rows;
end

-- What ended last, newest first.
local function list_ended(state)
	local rows = {};
	for id, ended in pairs(state.ended) do
		if ended.how ~= "unknown" then
			rows[#rows + 1] = { mitigation = id, revision = ended.revision, how = ended.how, at = ended.at };
		end
	end
	table.sort(rows, function (a, b) return a.at > b.at or a.at == b.at and a.mitigation < b.mitigation; end);
	for i = #rows, max_ended_listed + 1, -1 do rows[i] = nil; end
	for _, row in ipairs(rows) do row.ended_at, row.at = format_time(row.at), nil; end
	return rows;
end

return {
	store = "incident_bridge", undo_store = "incident_bridge_undo";
	wish_key = wish_key, read_wish_key = read_wish_key;
	parse_time = parse_time, format_time = format_time, check_id = check_id;
	read_head = read_head, read_command = read_command, read_target = read_target, key_of = key_of;
	new_state = new_state, check = check, apply = apply, withdraw = withdraw, lift = lift, finish = finish;
	ids_of = ids_of, list_due = list_due, list_jobs = list_jobs, done = done, remember = remember, renew = renew;
	list = list, list_ended = list_ended;
};
