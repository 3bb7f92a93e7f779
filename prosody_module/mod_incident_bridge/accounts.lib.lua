-- Suspended accounts: they bind no resource and have no session; password, roster and all else stay as they are.

local jid_split = require "util.jid".split;

local text = "This account is suspended";
local stream_error = { condition = "policy-violation", text = text };

local accounts_methods = {};
local accounts_mt = { __index = accounts_methods };

-- deps: host; hosts (prosody.hosts); connections() -> the client sessions by connection, bound or not;
-- user_exists(username); is_admin(bare JID); is_suspended(bare JID); timer(seconds, callback).
local function new(deps)
	return setmetatable({ deps = deps }, accounts_mt);
end

-- Why this account may not be suspended: the HTTP status and the reason; nil if it may.
function accounts_methods:check(target)
	local username, host = jid_split(target.account);
	if host ~= self.deps.host then return 409, ("%s is not an account of %s"):format(target.account, self.deps.host); end
	if self.deps.is_admin(target.account) then return 409, target.account .. " is an admin"; end
	if not self.deps.user_exists(username) then return 404, "no such account"; end
end

function accounts_methods:sessions(account)
	local username = jid_split(account);
	local user = self.deps.hosts[self.deps.host].sessions[username];
	local found, seen = {}, {};
	local function add(session)
		if not seen[session] then
			seen[session] = true;
			found[#found + 1] = session;
		end
	end
	for _, session in pairs(user and user.sessions or {}) do add(session); end
	for _, session in pairs(self.deps.connections()) do
		if session.username == username and session.host == self.deps.host then add(session); end
	end
	return found;
end

-- Closes all sessions, those that mod_smacks keeps for a client that is away among them.
function accounts_methods:carry_out(target)
	for _, session in ipairs(self:sessions(target.account)) do session:close(stream_error); end
	return true;
end

function accounts_methods:restore(target)
	return { is_gone = not self.deps.user_exists((jid_split(target.account))) };
end

local function close_soon(self, session)
	self.deps.timer(0, function () session:close(stream_error); end);
end

local function is_refused(self, session)
	return session.username and session.host == self.deps.host
		and self.deps.is_suspended(session.username .. "@" .. session.host);
end

-- For pre-resource-bind: with what the client gets instead of a resource.
function accounts_methods:refuse_bind(event)
	if not is_refused(self, event.session) then return; end
	event.error = { type = "cancel", condition = "not-allowed", text = text };
	close_soon(self, event.session); -- after the error
	return false;
end

-- For what would give a session back without binding: stream resumption.
function accounts_methods:refuse_resumption(session)
	if session.type == "c2s" or not is_refused(self, session) then return; end
	session:close(stream_error);
	return true;
end

return { new = new };
