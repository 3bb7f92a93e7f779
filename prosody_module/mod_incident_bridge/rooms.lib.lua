-- Bans from the chat rooms of this host, by the rooms' own affiliations.

local jid_host = require "util.jid".host;
local jid_split = require "util.jid".split;

local rooms_methods = {};
local rooms_mt = { __index = rooms_methods };

-- deps: host; hosts (prosody.hosts); is_own(domain): whether a component belongs to this host; is_admin(bare JID);
-- find_admin(domain): an admin whose JID is there.
local function new(deps)
	return setmetatable({ deps = deps }, rooms_mt);
end

local function muc_of(self, domain)
	local session = self.deps.hosts[domain];
	return session and session.modules and session.modules.muc or nil;
end

-- The room, or nil; the second value says whether its component runs.
function rooms_methods:find(room_jid)
	local muc = muc_of(self, jid_host(room_jid));
	if not muc then return nil, false; end
	return muc.get_room_from_jid(room_jid), true;
end

-- Every room of this host that is in use now.
function rooms_methods:list_live()
	local found = {};
	for domain in pairs(self.deps.hosts) do
		local muc = self.deps.is_own(domain) and muc_of(self, domain);
		if muc then
			for room in muc.live_rooms() do found[#found + 1] = room; end
		end
	end
	table.sort(found, function (a, b) return a.jid < b.jid; end);
	return found;
end

-- The occupants that `matches` says yes to, by their bare JID.
function rooms_methods:occupants(room, matches) -- luacheck: ignore 212/self
	local found = {};
	for _, occupant in room:each_occupant() do
		if matches(occupant.bare_jid) then found[#found + 1] = occupant; end
	end
	return found;
end

-- Why nobody may be banned there: the HTTP status and the reason; nil if one may.
function rooms_methods:check(target)
	local deps, node, domain = self.deps, jid_split(target.jid);
	if not deps.is_own(jid_host(target.room)) then return 409, ("%s is not a room of %s"):format(target.room, deps.host); end
	if not node and deps.hosts[domain] then return 409, domain .. " is a domain of this server"; end
	if deps.is_admin(target.jid) then return 409, target.jid .. " is an admin"; end
	local admin = not node and deps.find_admin(domain);
	if admin then return 409, ("the admin %s is on %s"):format(admin, domain); end
	if not self:find(target.room) then return 404, "no such room"; end
end

-- What an affiliation is in the room's own list; a ban of a whole domain does not count for its users here.
local function affiliation_in(room, jid)
	for listed, affiliation in room:each_affiliation() do
		if listed == jid then return affiliation; end
	end
	return "none";
end

-- The affiliation from before, or nil where there is no room to ask.
function rooms_methods:capture(target)
	local room = self:find(target.room);
	return room and affiliation_in(room, target.jid) or nil;
end

-- Whether it is done; nil and why not; or false if it must be tried again later. A room shows the reason of a ban to
-- everybody in it, so none is given.
function rooms_methods:carry_out(target)
	local room, is_running = self:find(target.room);
	if not is_running then return false; end
	if not room then return true; end -- when somebody makes it again, so will we
	if affiliation_in(room, target.jid) == "outcast" then return true; end
	local ok, _, condition = room:set_affiliation(true, target.jid, "outcast");
	if not ok then return nil, ("the room refused it: %s"):format(condition or "unknown reason"); end
	return true;
end

-- What came of it, or false if it must be tried again later. An affiliation that somebody changed meanwhile stays.
function rooms_methods:restore(target, before)
	local room, is_running = self:find(target.room);
	if not is_running then return false; end
	if not room then return { is_gone = true }; end
	local current = affiliation_in(room, target.jid);
	if current ~= "outcast" then return { is_gone = false, changed_by_hand = current }; end
	if before and before ~= "outcast" then
		local ok = room:set_affiliation(true, target.jid, before);
		if not ok then return false; end
	end
	return { is_gone = false, affiliation = before or "outcast" };
end

return { new = new };
