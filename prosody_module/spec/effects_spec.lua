local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local json = require "util.json";
local st = require "util.stanza";

local incident = "urn:xmpp:incident:2";
local disco_info = "http://jabber.org/protocol/disco#info";

local function new_session(fields)
	function fields.close(session, reason) session.closed = reason; end
	if fields.conn == nil then fields.conn = {}; end
	return fields;
end

-- A room with a list of affiliations, and of bare JIDs in it by nick.
local function new_room(jid, affiliations, occupants)
	local room = { jid = jid, affiliations = affiliations or {}, roles = {} };
	function room.each_affiliation() return pairs(room.affiliations); end
	function room.each_occupant()
		local list = {};
		for nick, bare in pairs(occupants or {}) do list[jid .. "/" .. nick] = { nick = jid .. "/" .. nick, bare_jid = bare }; end
		return pairs(list);
	end
	function room.set_affiliation(_, actor, who, affiliation)
		assert.is_true(actor);
		if room.refuses then return nil, "cancel", "not-allowed"; end
		room.affiliations[who] = affiliation ~= "none" and affiliation or nil;
		return true;
	end
	function room.set_role(_, _, nick, role) room.roles[nick] = role; end
	return room;
end

local function new_world()
	local world = { timers = {}, sent = {}, blocked = {}, suspended = {}, rooms = {} };
	local function get_room(jid) return world.rooms[jid]; end
	world.muc = {
		get_room_from_jid = get_room;
		live_rooms = function ()
			local jid, room;
			return function ()
				jid, room = next(world.rooms, jid);
				return room;
			end;
		end;
	};
	world.hosts = {
		["a.test"] = { type = "local", sessions = {}, s2sout = {}, modules = {} };
		["other.test"] = { type = "local", sessions = {}, s2sout = {}, modules = {} };
		["muc.a.test"] = { type = "component", s2sout = {}, modules = { muc = world.muc } };
		["muc.other.test"] = { type = "component", s2sout = {}, modules = { muc = world.muc } };
	};
	world.incoming, world.connections = {}, {};
	local function is_admin(jid) return jid == "admin@a.test"; end
	local function find_admin(domain) return domain == "c.test" and "root@c.test" or nil; end
	local function timer(_, callback) table.insert(world.timers, callback); end
	world.rooms_effect = support.library("rooms").new {
		host = "a.test", hosts = world.hosts, is_admin = is_admin, find_admin = find_admin;
		is_own = function (domain) return domain == "muc.a.test"; end;
	};
	world.accounts = support.library("accounts").new {
		host = "a.test", hosts = world.hosts, timer = timer, is_admin = is_admin;
		connections = function () return world.connections; end;
		user_exists = function (username) return username ~= "nobody"; end;
		is_suspended = function (account) return world.suspended[account]; end;
	};
	world.domains = support.library("domains").new {
		host = "a.test", hosts = world.hosts, timer = timer, rooms = world.rooms_effect;
		list_own = function () return { "a.test", "muc.a.test" }; end;
		is_own = function (domain) return domain == "muc.a.test"; end;
		incoming = function () return world.incoming; end;
		find_admin = find_admin;
		is_blocked = function (domain) return world.blocked[domain]; end;
		send = function (stanza, from_host) table.insert(world.sent, { stanza = stanza, from_host = from_host }); end;
	};
	function world.run_timers()
		local due = world.timers;
		world.timers = {};
		for _, callback in ipairs(due) do callback(); end
	end
	return world;
end

describe("account.suspend", function ()
	it("closes all sessions of that account, and nobody else's", function ()
		local world = new_world();
		local phone, away = new_session { username = "x", host = "a.test" }, new_session { username = "x", host = "a.test" };
		local unbound, other = new_session { username = "x", host = "a.test" }, new_session { username = "y", host = "a.test" };
		local elsewhere = new_session { username = "x", host = "other.test" };
		world.hosts["a.test"].sessions.x = { sessions = { phone = phone, away = away } };
		world.connections = { phone, unbound, other, elsewhere, new_session {} };
		assert.equal(3, #world.accounts:sessions("x@a.test"));
		assert.is_true(world.accounts:carry_out({ account = "x@a.test" }));
		for _, session in ipairs { phone, away, unbound } do
			assert.same({ condition = "policy-violation", text = "This account is suspended" }, session.closed);
		end
		assert.is_nil(other.closed);
		assert.is_nil(elsewhere.closed);
	end);

	it("refuses a resource with an error, and closes the session after it", function ()
		local world = new_world();
		world.suspended["x@a.test"] = true;
		local event = { session = new_session { username = "x", host = "a.test" } };
		assert.is_false(world.accounts:refuse_bind(event));
		assert.equal("not-allowed", event.error.condition);
		assert.is_nil(event.session.closed);
		world.run_timers();
		assert.truthy(event.session.closed);
		assert.is_nil(world.accounts:refuse_bind({ session = new_session { username = "y", host = "a.test" } }));
	end);

	it("refuses to resume a session, but not between two servers", function ()
		local world = new_world();
		world.suspended["x@a.test"] = true;
		local session = new_session { type = "c2s_unbound", username = "x", host = "a.test" };
		assert.is_true(world.accounts:refuse_resumption(session));
		assert.truthy(session.closed);
		assert.is_nil(world.accounts:refuse_resumption(new_session { type = "s2sin" }));
	end);

	it("is refused for admins and other hosts, and not found where there is no account", function ()
		local world = new_world();
		assert.equal(409, (world.accounts:check({ account = "admin@a.test" })));
		assert.equal(409, (world.accounts:check({ account = "x@other.test" })));
		assert.equal(404, (world.accounts:check({ account = "nobody@a.test" })));
		assert.is_nil((world.accounts:check({ account = "x@a.test" })));
	end);

	it("says at its end whether the account is gone", function ()
		local world = new_world();
		assert.same({ is_gone = true }, world.accounts:restore({ account = "nobody@a.test" }));
		assert.same({ is_gone = false }, world.accounts:restore({ account = "x@a.test" }));
	end);
end);

describe("room.ban", function ()
	local target = { room = "r@muc.a.test", jid = "x@b.test" };

	it("makes an outcast, and gives back what was before", function ()
		local world = new_world();
		for _, before in ipairs { "none", "member", "owner", "outcast" } do
			local room = new_room("r@muc.a.test", { ["x@b.test"] = before ~= "none" and before or nil });
			world.rooms["r@muc.a.test"] = room;
			assert.equal(before, world.rooms_effect:capture(target));
			assert.is_true(world.rooms_effect:carry_out(target));
			assert.equal("outcast", room.affiliations["x@b.test"]);
			assert.same({ is_gone = false, affiliation = before }, world.rooms_effect:restore(target, before));
			assert.equal(before ~= "none" and before or nil, room.affiliations["x@b.test"]);
		end
	end);

	it("takes no ban of a whole domain for one of its user", function ()
		local world = new_world();
		world.rooms["r@muc.a.test"] = new_room("r@muc.a.test", { ["b.test"] = "outcast" });
		assert.equal("none", world.rooms_effect:capture(target));
	end);

	it("leaves what somebody changed meanwhile, and says so", function ()
		local world = new_world();
		local room = new_room("r@muc.a.test", { ["x@b.test"] = "admin" });
		world.rooms["r@muc.a.test"] = room;
		assert.same({ is_gone = false, changed_by_hand = "admin" }, world.rooms_effect:restore(target, "member"));
		assert.equal("admin", room.affiliations["x@b.test"]);
	end);

	it("says what a room refuses, and what must wait until there are rooms", function ()
		local world = new_world();
		local room = new_room("r@muc.a.test");
		world.rooms["r@muc.a.test"], room.refuses = room, true;
		local ok, why = world.rooms_effect:carry_out(target);
		assert.is_nil(ok);
		assert.truthy(why:find("not-allowed", 1, true));
		world.hosts["muc.a.test"].modules.muc = nil;
		assert.is_nil(world.rooms_effect:capture(target));
		assert.is_false((world.rooms_effect:carry_out(target)));
		assert.is_false(world.rooms_effect:restore(target, "member"));
	end);

	it("has nothing to do in a room that is gone", function ()
		local world = new_world();
		assert.is_true(world.rooms_effect:carry_out(target));
		assert.same({ is_gone = true }, world.rooms_effect:restore(target, "member"));
	end);

	it("is refused for admins, own domains and rooms of others, and not found where there is no room", function ()
		local world = new_world();
		world.rooms["r@muc.a.test"] = new_room("r@muc.a.test");
		local function check(room, jid) return (world.rooms_effect:check({ room = room, jid = jid })); end
		assert.equal(409, check("r@muc.other.test", "x@b.test"));
		assert.equal(409, check("r@muc.c.test", "x@b.test"));
		assert.equal(409, check("r@muc.a.test", "admin@a.test"));
		assert.equal(409, check("r@muc.a.test", "other.test"));
		assert.equal(409, check("r@muc.a.test", "c.test"));
		assert.equal(404, check("gone@muc.a.test", "x@b.test"));
		assert.is_nil(check("r@muc.a.test", "x@other.test"));
		assert.is_nil(check("r@muc.a.test", "b.test"));
	end);
end);

describe("domain.block", function ()
	it("closes the streams of the host and its components with that domain, and no others", function ()
		local world = new_world();
		local out = new_session { direction = "outgoing", from_host = "a.test", to_host = "b.test" };
		local into = new_session { direction = "incoming", from_host = "b.test", to_host = "muc.a.test" };
		local two_way = new_session { direction = "incoming", from_host = "b.test", to_host = "a.test" };
		local piggy = new_session {
			direction = "incoming", from_host = "c.test", to_host = "a.test", hosts = { ["b.test"] = { authed = true } };
		};
		local others = {
			new_session { direction = "incoming", from_host = "b.test", to_host = "other.test" };
			new_session { direction = "incoming", from_host = "c.test", to_host = "a.test", hosts = { ["b.test"] = {} } };
			new_session { direction = "incoming" };
		};
		world.hosts["a.test"].s2sout["b.test"], world.hosts["muc.a.test"].s2sout["b.test"] = out, two_way;
		for _, session in ipairs { into, two_way, piggy, others[1], others[2], others[3] } do world.incoming[session] = true; end
		assert.equal(4, #world.domains:streams("b.test"));
		assert.is_true(world.domains:carry_out({ domain = "b.test" }));
		for _, session in ipairs { out, into, two_way, piggy } do
			assert.equal("policy-violation", session.closed.condition);
		end
		for _, session in ipairs(others) do assert.is_nil(session.closed); end
	end);

	it("closes a stream that was not connected yet as soon as it is, unless the domain is free again", function ()
		local world = new_world();
		local function connect()
			local session = new_session { direction = "outgoing", from_host = "a.test", to_host = "b.test", conn = false };
			world.hosts["a.test"].s2sout["b.test"] = session;
			world.domains:carry_out({ domain = "b.test" });
			assert.is_nil(session.closed);
			session.conn = {};
			world.domains:close_doomed({ session = session });
			return session.closed ~= nil;
		end
		world.blocked["b.test"] = true;
		assert.is_true(connect());
		local later = new_session { direction = "outgoing", from_host = "a.test", to_host = "b.test" };
		world.domains:close_doomed({ session = later });
		assert.is_nil(later.closed);
		world.blocked["b.test"] = nil;
		assert.is_false(connect());
	end);

	it("takes the domain's users out of this host's rooms", function ()
		local world = new_world();
		local room = new_room("r@muc.a.test", {}, { one = "x@b.test", two = "y@a.test" });
		world.rooms["r@muc.a.test"] = room;
		world.domains:carry_out({ domain = "b.test" });
		assert.same({ ["r@muc.a.test/one"] = "none" }, room.roles);
	end);

	it("is refused for this server's domains, and for those of admins", function ()
		local world = new_world();
		for _, domain in ipairs { "a.test", "other.test", "muc.a.test", "c.test" } do
			assert.equal(409, (world.domains:check({ domain = domain })), domain);
		end
		assert.is_nil((world.domains:check({ domain = "b.test" })));
	end);
end);

describe("an admin's domain", function ()
	it("is known however the admin is written, and only that one", function ()
		local find_admin = support.library("host").find_admin;
		local admins = { "admin@a.test", "Root@C.Test", "nobody@@nowhere" };
		assert.equal("root@c.test", find_admin("c.test", admins));
		assert.is_nil(find_admin("sub.c.test", admins));
		assert.is_nil(find_admin("test", admins));
	end);
end);

describe("what comes from a blocked domain", function ()
	local function receive(stanza, origin)
		local world = new_world();
		world.blocked["b.test"] = true;
		local is_stopped = world.domains:refuse_incoming({ origin = origin or { type = "s2sin" }, stanza = stanza });
		return is_stopped or false, world.sent[1] and world.sent[1].stanza, world.sent[1] and world.sent[1].from_host, world;
	end

	local function iq(type, to, id, payload, xmlns)
		local stanza = st.iq({ type = type, to = to, from = "b.test", id = id });
		if payload then stanza:tag(payload, { xmlns = xmlns }):up(); end
		return stanza;
	end

	it("is let in where it is about incidents, and addressed to the host itself", function ()
		for _, stanza in ipairs {
			iq("set", "a.test", "1", "report", incident), iq("get", "a.test", "1", "inquiry", incident);
			iq("get", "a.test", "1", "query", disco_info), iq("result", "a.test", "ib-1"), iq("error", "a.test", "ib-1");
		} do
			assert.is_false((receive(stanza)), tostring(stanza));
		end
	end);

	it("is stopped otherwise, and whoever waits for an answer gets one", function ()
		for _, stanza in ipairs {
			iq("set", "a.test", "1", "query", disco_info), iq("set", "x@a.test", "1", "report", incident);
			iq("get", "a.test", "1", "query", "jabber:iq:version"), iq("get", "muc.a.test", "1", "query", disco_info);
			iq("get", "a.test", "1");
			st.message({ type = "chat", to = "x@a.test", from = "y@b.test" }, "spam"), st.message({ to = "a.test", from = "b.test" });
		} do
			local is_stopped, reply, from_host = receive(stanza);
			assert.is_true(is_stopped, tostring(stanza));
			assert.equal("error", reply.attr.type);
			assert.equal("not-allowed", select(2, reply:get_error()));
			assert.equal(stanza.attr.to:match("[^@]*$"), from_host);
		end
	end);

	it("is stopped in silence where nobody waits", function ()
		for _, stanza in ipairs {
			iq("result", "a.test", "1"), iq("error", "x@a.test", "ib-1"), st.stanza("iq", { type = "result", from = "b.test" });
			st.presence({ from = "y@b.test", to = "x@a.test" });
			st.presence({ type = "subscribe", from = "y@b.test", to = "x@a.test" }), st.message({ from = "y@b.test" });
			st.message({ type = "error", from = "y@b.test", to = "x@a.test" });
		} do
			local is_stopped, reply = receive(stanza);
			assert.is_true(is_stopped, tostring(stanza));
			assert.is_nil(reply);
		end
	end);

	it("is another's business on other streams", function ()
		local stanza = st.message({ type = "chat", to = "x@a.test", from = "y@b.test" }, "x");
		assert.is_true((receive(stanza, { type = "s2sout" }))); -- two-way
		assert.is_false((receive(stanza, { type = "s2sin", dummy = true }))); -- our own bounce
		assert.is_false((receive(stanza, { type = "local" })));
		assert.is_false((receive(st.message({ to = "x@a.test", from = "y@c.test" }), { type = "s2sin" })));
	end);

	it("is another's business at a component that turned out to be of a host below ours", function ()
		assert.is_true((receive(st.message({ type = "groupchat", to = "r@muc.a.test", from = "y@b.test" }, "x"))));
		assert.is_false((receive(st.message({ type = "groupchat", to = "r@muc.below.a.test", from = "y@b.test" }, "x"))));
	end);

	it("gets its refusal though nothing else may go there", function ()
		local _, reply, _, world = receive(st.message({ type = "chat", to = "x@a.test", from = "y@b.test" }, "spam"));
		assert.is_nil(world.domains:refuse_outgoing({ stanza = reply, from_host = "a.test", to_host = "b.test" }));
	end);
end);

describe("what goes to a blocked domain", function ()
	local function send(stanza, to_host, from_host)
		local world = new_world();
		world.blocked["b.test"] = true;
		local event = { stanza = stanza, from_host = from_host or "a.test", to_host = to_host or "b.test" };
		local is_stopped = world.domains:refuse_outgoing(event);
		assert.same({}, world.sent); -- not while somebody may be in the middle of something
		world.run_timers();
		return is_stopped or false, world.sent[1] and world.sent[1].stanza;
	end

	it("is let out where it is ours", function ()
		for _, stanza in ipairs {
			st.iq({ type = "set", from = "a.test", to = "b.test", id = "ib-1" }):tag("report", { xmlns = incident }):up();
			st.iq({ type = "get", from = "a.test", to = "b.test", id = "ib-1" }):tag("query", { xmlns = disco_info }):up();
			st.iq({ type = "result", from = "a.test", to = "b.test", id = "1" });
			st.iq({ type = "error", from = "a.test", to = "b.test", id = "1" });
			st.stanza("db:result", { from = "a.test", to = "b.test" });
		} do
			assert.is_false((send(stanza)), tostring(stanza));
		end
		assert.is_false((send(st.message({ from = "x@a.test", to = "y@c.test" }), "c.test")));
		local others = st.message({ type = "groupchat", from = "r@muc.below.a.test/x", to = "y@b.test" }, "hi");
		assert.is_false((send(others, "b.test", "muc.below.a.test")));
	end);

	it("is stopped otherwise, and a local user is told at once", function ()
		for _, stanza in ipairs {
			st.message({ type = "chat", from = "x@a.test/phone", to = "y@b.test" }, "hi");
			st.presence({ from = "x@a.test", to = "y@b.test" });
			st.presence({ type = "subscribe", from = "x@a.test", to = "y@b.test" });
			st.iq({ type = "set", from = "x@a.test/phone", to = "b.test", id = "ib-1" }):tag("report", { xmlns = incident }):up();
			st.iq({ type = "set", from = "a.test", to = "b.test", id = "1" }):tag("report", { xmlns = incident }):up();
			st.iq({ type = "get", from = "a.test", to = "b.test", id = "ib-1" }):tag("query", { xmlns = "jabber:iq:version" }):up();
		} do
			local is_stopped, reply = send(stanza);
			assert.is_true(is_stopped, tostring(stanza));
			assert.equal(stanza.attr.from, reply.attr.to);
			assert.equal("a.test does not communicate with b.test", select(3, reply:get_error()));
		end
	end);

	it("is stopped in silence where nobody waits", function ()
		for _, stanza in ipairs {
			st.message({ type = "error", from = "x@a.test", to = "y@b.test" });
			st.presence({ type = "unavailable", from = "x@a.test", to = "y@b.test" });
			st.presence({ type = "probe", from = "x@a.test", to = "y@b.test" });
			st.iq({ type = "result", from = "x@a.test", to = "y@b.test", id = "1" });
		} do
			local is_stopped, reply = send(stanza);
			assert.is_true(is_stopped, tostring(stanza));
			assert.is_nil(reply);
		end
	end);
end);

describe("impact.preview", function ()
	local function preview(data, world)
		world = world or new_world();
		local effects = { ["account.suspend"] = world.accounts, ["domain.block"] = world.domains, ["room.ban"] = world.rooms_effect };
		local rosters = {
			x = { [false] = {}, pending = {}, ["y@b.test"] = {}, ["z@c.test"] = {} };
			w = { ["y@b.test"] = {}, ["b.test"] = {} };
		};
		local made = support.library("preview").new {
			mitigations = support.library "mitigations", host = "a.test", effects = effects;
			mitigator = { others = function () return { "m1" }; end };
			accounts = world.accounts, domains = world.domains, rooms = world.rooms_effect;
			user_exists = function (username) return rosters[username] ~= nil or username == "admin"; end;
			users = world.users or function () return pairs(rosters); end, load_roster = function (username) return rosters[username]; end;
			is_admin = function (jid) return jid == "admin@a.test"; end;
			now = function ()
				world.time = (world.time or 0) + (world.pace or 0);
				return world.time;
			end;
		};
		return made:preview(data);
	end

	it("counts an account's sessions, contacts and rooms", function ()
		local world = new_world();
		world.hosts["a.test"].sessions.x = { sessions = { phone = new_session {} } };
		world.rooms["r@muc.a.test"] = new_room("r@muc.a.test", {}, { one = "x@a.test", two = "y@a.test" });
		local seen = preview({ account = "X@a.test" }, world);
		assert.same({ true, 1, 2, false, "x@a.test" }, { seen.exists, seen.sessions, seen.contacts, seen.is_admin, seen.account });
		assert.same({ { room = "r@muc.a.test", occupants = 1 } }, { seen.rooms[1] });
		assert.equal(json.null, seen.refused);
		assert.same({ "m1" }, seen.mitigated_by);
	end);

	it("counts a domain's streams, and its contacts as long as there is time", function ()
		local world = new_world();
		world.hosts["a.test"].s2sout["b.test"] = new_session {};
		local seen = preview({ domain = "b.test" }, world);
		assert.same({ 1, 3, true }, { seen.streams, seen.contacts, seen.contacts_complete });
		world.pace = 1;
		seen = preview({ domain = "b.test" }, world);
		assert.same({ 0, false }, { seen.contacts, seen.contacts_complete });
	end);

	it("says that contacts are not counted where the accounts cannot be listed", function ()
		local world = new_world();
		world.hosts["a.test"].s2sout["b.test"] = new_session {};
		for _, users in ipairs { function () error("no such method"); end, function () return nil, "not supported"; end } do
			world.users = users;
			local seen = preview({ domain = "b.test" }, world);
			assert.same({ 1, 0, false }, { seen.streams, seen.contacts, seen.contacts_complete });
		end
	end);

	it("counts who would leave a room, a whole domain's users if need be", function ()
		local world = new_world();
		local occupants = { one = "x@b.test", two = "y@b.test", three = "z@a.test" };
		world.rooms["r@muc.a.test"] = new_room("r@muc.a.test", { ["x@b.test"] = "member" }, occupants);
		local seen = preview({ room = "r@muc.a.test", jid = "x@b.test" }, world);
		assert.same({ "member", 1, 3 }, { seen.affiliation, seen.occupants, seen.occupants_in_all });
		assert.equal(2, preview({ room = "r@muc.a.test", jid = "b.test" }, world).occupants);
	end);

	it("says what is not there, and what would be refused", function ()
		local nobody = preview({ account = "nobody@a.test" });
		assert.same({ false, "no such account" }, { nobody.exists, nobody.refused });
		assert.is_string(preview({ account = "admin@a.test" }).refused);
		assert.is_string(preview({ domain = "a.test" }).refused);
		assert.is_false(preview({ room = "r@muc.other.test", jid = "x@b.test" }).exists);
		assert.is_false(preview({ room = "gone@muc.a.test", jid = "x@b.test" }).exists);
		for _, data in ipairs { {}, { account = "a.test" }, { domain = 5 }, { room = "r@muc.a.test" } } do
			assert.equal(400, select(3, preview(data)));
		end
	end);
end);
