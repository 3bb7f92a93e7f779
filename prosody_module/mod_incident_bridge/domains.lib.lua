-- Blocked domains: nothing goes to them or comes from them but XEP-0268, so that their operator can still talk to us.
-- Streams are closed once and may be opened again: what passes on them is decided stanza by stanza.

local jid_host = require "util.jid".host;
local jid_split = require "util.jid".split;
local st = require "util.stanza";

local incident_xmlns = "urn:xmpp:incident:2";
local disco_info = "http://jabber.org/protocol/disco#info";
local own_id_prefix = "ib-";
local stanza_names = { message = true, presence = true, iq = true };

local domains_methods = {};
local domains_mt = { __index = domains_methods };

-- deps: host; hosts (prosody.hosts); list_own() -> this host and its components; is_own(domain): whether a component is
-- this host's now; incoming() -> a table whose keys are the incoming server streams; find_admin(domain): an admin whose
-- JID is there; is_blocked(domain); send(stanza, from_host); timer(seconds, callback); rooms: to empty them of the
-- domain's occupants.
local function new(deps)
	return setmetatable({
		deps = deps;
		own = setmetatable({}, { __mode = "k" }); -- our refusals, which may go to a blocked domain
		doomed = setmetatable({}, { __mode = "k" }); -- streams to close as soon as that is possible
	}, domains_mt);
end

-- Why this domain may not be blocked: the HTTP status and the reason; nil if it may.
function domains_methods:check(target)
	if self.deps.hosts[target.domain] then return 409, target.domain .. " is a domain of this server"; end
	local admin = self.deps.find_admin(target.domain);
	if admin then return 409, ("the admin %s is on %s"):format(admin, target.domain); end
end

local function is_from(session, domain)
	if session.direction == "outgoing" then return session.to_host == domain; end
	local known = session.hosts and session.hosts[domain];
	return session.from_host == domain or known and known.authed;
end

-- The streams between this host or its components and the domain: incoming and outgoing, a two-way one once.
function domains_methods:streams(domain)
	local own, found, seen = {}, {}, {};
	local function add(session)
		if not seen[session] then
			seen[session] = true;
			found[#found + 1] = session;
		end
	end
	for _, name in ipairs(self.deps.list_own()) do
		own[name] = true;
		local session = (self.deps.hosts[name].s2sout or {})[domain];
		if session then add(session); end
	end
	for session in pairs(self.deps.incoming()) do
		if own[session.to_host] and is_from(session, domain) then add(session); end
	end
	return found;
end

local function close(self, session, domain)
	session:close({ condition = "policy-violation", text = ("%s does not communicate with %s"):format(self.deps.host, domain) });
end

-- Takes the domain's users out of the rooms of this host, and closes the streams.
function domains_methods:carry_out(target)
	local rooms, domain = self.deps.rooms, target.domain;
	local function is_there(bare) return jid_host(bare) == domain; end
	for _, room in ipairs(rooms:list_live()) do
		for _, occupant in ipairs(rooms:occupants(room, is_there)) do
			room:set_role(true, occupant.nick, "none", "This server does not communicate with " .. domain);
		end
	end
	for _, session in ipairs(self:streams(domain)) do
		if session.conn then close(self, session, domain); else self.doomed[session] = true; end
	end
	return true;
end

-- For s2sout-established: a stream that was still looking for the other server when its domain was blocked could not be
-- closed then; what waits to be sent on it was from before.
function domains_methods:close_doomed(event)
	local session = event.session;
	if not self.doomed[session] then return; end
	self.doomed[session] = nil;
	if self.deps.is_blocked(session.to_host) then close(self, session, session.to_host); end
end

function domains_methods:restore() -- luacheck: ignore 212/self
	return { is_gone = false };
end

local function is_disco_info(payload)
	return payload.name == "query" and payload.attr.xmlns == disco_info;
end

local function is_to_talk_about(payload, type)
	return payload ~= nil and (payload.attr.xmlns == incident_xmlns or type == "get" and is_disco_info(payload));
end

-- What a blocked domain may still send: incident IQs and disco#info requests to the host itself, and replies to ours.
local function may_come(self, stanza)
	local node, domain, resource = jid_split(stanza.attr.to);
	if stanza.name ~= "iq" or node or resource or domain ~= self.deps.host then return false; end
	local type, id = stanza.attr.type, stanza.attr.id;
	if type == "result" or type == "error" then return id ~= nil and id:sub(1, #own_id_prefix) == own_id_prefix; end
	return is_to_talk_about(stanza.tags[1], type);
end

-- What may still go to a blocked domain: our incident IQs and disco#info requests, the host's own replies, and our
-- refusals. A user's stanza is never from the host itself.
local function may_go(self, stanza)
	if self.own[stanza] then return true; end
	if stanza.name ~= "iq" or stanza.attr.from ~= self.deps.host then return false; end
	local type, id = stanza.attr.type, stanza.attr.id;
	if type == "result" or type == "error" then return true; end
	return id ~= nil and id:sub(1, #own_id_prefix) == own_id_prefix and is_to_talk_about(stanza.tags[1], type);
end

local function is_stream(origin)
	return (origin.type == "s2sin" or origin.type == "s2sout") and not origin.dummy;
end

-- Presence gets no answer unless it asks for something, and a reply never gets any.
local function wants_answer(stanza)
	local type = stanza.attr.type;
	if type == "error" or type == "result" then return false; end
	return stanza.name ~= "presence" or type == nil or type == "subscribe";
end

local function error_reply(self, stanza, domain)
	return st.error_reply(stanza, "cancel", "not-allowed", ("%s does not communicate with %s"):format(self.deps.host, domain));
end

-- A component may turn out to be of a host below this one, which started later.
local function is_ours(self, domain)
	return domain == nil or domain == self.deps.host or self.deps.is_own(domain);
end

-- For every stanza that comes to this host or its components. True: it goes no further.
function domains_methods:refuse_incoming(event)
	local origin, stanza = event.origin, event.stanza;
	if not is_stream(origin) then return; end
	local domain = jid_host(stanza.attr.from);
	if not domain or not self.deps.is_blocked(domain) or may_come(self, stanza) then return; end
	if not is_ours(self, jid_host(stanza.attr.to)) then return; end
	-- presence from there gets no answer at all: it comes by itself, and often
	if stanza.name ~= "presence" and stanza.attr.to and wants_answer(stanza) then
		local reply = error_reply(self, stanza, domain);
		self.own[reply] = true;
		self.deps.send(reply, jid_host(stanza.attr.to));
	end
	return true;
end

-- For every stanza that leaves this host or its components (route/remote). True: it goes no further.
function domains_methods:refuse_outgoing(event)
	local stanza, domain = event.stanza, event.to_host;
	if not stanza_names[stanza.name] or stanza.attr.xmlns then return; end -- dialback
	if not self.deps.is_blocked(domain) or may_go(self, stanza) or not is_ours(self, event.from_host) then return; end
	if wants_answer(stanza) then
		local reply = error_reply(self, stanza, domain);
		-- later, because a room may be in the middle of telling its occupants
		self.deps.timer(0, function () self.deps.send(reply, event.from_host); end);
	end
	return true;
end

return { new = new };
