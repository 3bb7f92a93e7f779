-- What a mitigation would touch, looked up and not changed: impact.preview.

local array = require "util.array";
local jid_host = require "util.jid".host;
local jid_split = require "util.jid".split;
local json_null = require "util.json".null;

local max_rooms = 50;
local count_seconds = 0.05; -- Prosody does nothing else meanwhile

local preview_methods = {};
local preview_mt = { __index = preview_methods };

-- deps: mitigations (the library); host; effects: type -> check; accounts, domains, rooms; mitigator;
-- user_exists(username); users() -> iterator; load_roster(username) -> table; is_admin(bare JID); now() -> seconds.
local function new(deps)
	return setmetatable({ deps = deps }, preview_mt);
end

local function count_contacts(roster, matches)
	local count = 0;
	for jid in pairs(roster or {}) do
		if type(jid) == "string" and jid ~= "pending" and matches(jid) then count = count + 1; end
	end
	return count;
end

local function list_rooms(self, matches)
	local found = array();
	for _, room in ipairs(self.deps.rooms:list_live()) do
		local occupants = #self.deps.rooms:occupants(room, matches);
		if occupants > 0 and #found < max_rooms then found:push({ room = room.jid, occupants = occupants }); end
	end
	return found;
end

-- How many contacts this host's users have at a domain, and whether there was time to look at all of them.
local function count_contacts_at(self, domain)
	local function is_there(jid) return jid_host(jid) == domain; end
	local started, count = self.deps.now(), 0;
	local can_list, iterator, list, last = pcall(self.deps.users); -- not every authentication module can
	if not can_list or not iterator then return 0, false; end
	for username in iterator, list, last do
		if self.deps.now() - started > count_seconds then return count, false; end
		count = count + count_contacts(self.deps.load_roster(username), is_there);
	end
	return count, true;
end

local readers = {};

readers["account.suspend"] = function (self, target)
	local deps, account = self.deps, target.account;
	local username, host = jid_split(account);
	if host ~= deps.host or not deps.user_exists(username) then return { exists = false, is_admin = false }; end
	return {
		exists = true, is_admin = deps.is_admin(account);
		sessions = #deps.accounts:sessions(account);
		contacts = count_contacts(deps.load_roster(username), function () return true; end), contacts_complete = true;
		rooms = list_rooms(self, function (bare) return bare == account; end);
	};
end

readers["domain.block"] = function (self, target)
	local domain = target.domain;
	local contacts, is_complete = count_contacts_at(self, domain);
	local streams = #self.deps.domains:streams(domain);
	return {
		exists = true, is_admin = false, streams = streams;
		contacts = contacts, contacts_complete = is_complete;
		rooms = list_rooms(self, function (bare) return jid_host(bare) == domain; end);
	};
end

readers["room.ban"] = function (self, target)
	local deps, banned = self.deps, target.jid;
	if not deps.rooms.deps.is_own(jid_host(target.room)) then return { exists = false, is_admin = false }; end
	local room = deps.rooms:find(target.room);
	if not room then return { exists = false, is_admin = deps.is_admin(banned) }; end
	local is_domain = not jid_split(banned);
	local present = deps.rooms:occupants(room, function (bare) return bare == banned or is_domain and jid_host(bare) == banned; end);
	return {
		exists = true, is_admin = deps.is_admin(banned), affiliation = deps.rooms:capture(target);
		occupants = #present, occupants_in_all = #deps.rooms:occupants(room, function () return true; end);
		rooms = array({ { room = target.room, occupants = #present } });
	};
end

-- The content of an answer, or nil, why not, and the HTTP status. `refused` says why the mitigation would be refused.
function preview_methods:preview(data)
	local lib = self.deps.mitigations;
	local target, type, key = lib.read_target(data);
	if not target then return nil, type, 400; end
	local effect = readers[type](self, target);
	local _, why = self.deps.effects[type]:check(target);
	effect.type = type;
	effect.refused = why or json_null;
	effect.mitigated_by = self.deps.mitigator:others(key);
	for name, value in pairs(target) do effect[name] = value; end
	return effect;
end

return { new = new };
