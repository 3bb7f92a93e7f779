local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or ".";
local support = dofile(here .. "/support.lua");

local json = require "util.json";
local xml = require "util.xml";

local new_feeds = support.library("feeds").new;

local xmlns_pubsub, xmlns_event = "http://jabber.org/protocol/pubsub", "http://jabber.org/protocol/pubsub#event";
local us = "a.test/incident-bridge";

-- A service elsewhere: what it was asked waits for `answer`; time stands still until told otherwise.
local world_methods = {};
local world_mt = { __index = world_methods };

local function new_world()
	local world = setmetatable({ time = 1000, asked = {}, ids = 0 }, world_mt);
	world.feeds = new_feeds {
		host = "a.test", is_local_domain = function (domain) return domain == "a.test"; end;
		now = function () return world.time; end;
		new_id = function () world.ids = world.ids + 1; return "id-" .. world.ids; end;
		ask = function (iq, seconds, callback) table.insert(world.asked, { iq = iq, seconds = seconds, callback = callback }); end;
	};
	return world;
end

function world_methods:read(known, node)
	return self.feeds:read { service = "b.test", node = node or "list", known = known };
end

-- The newest question, as "subscribe list".
function world_methods:question()
	local asked = self.asked[#self.asked];
	local what = asked and asked.iq.tags[1].tags[1];
	return what and what.name .. " " .. what.attr.node;
end

-- Answers the newest question: with the text of a payload, nil (no answer), or the text of an error.
function world_methods:answer(payload, type)
	local asked = self.asked[#self.asked];
	local attributes = ("type='%s' from='b.test' to='a.test' id='%s'"):format(type or "result", asked.iq.attr.id);
	asked.callback(payload and xml.parse(("<iq %s>%s</iq>"):format(attributes, payload)));
end

function world_methods:refuse(condition, text)
	self:answer(("<error type='cancel'><%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>%s</error>"):format(condition,
		text and ("<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>%s</text>"):format(text) or ""), "error");
end

function world_methods:subscribed(state)
	self:answer(("<pubsub xmlns='%s'><subscription node='list' jid='%s' subid='s1' subscription='%s'/></pubsub>")
		:format(xmlns_pubsub, us, state or "subscribed"));
end

function world_methods:items(ids)
	local items = {};
	for i, id in ipairs(ids) do items[i] = ("<item id='%s'><x xmlns='x'/></item>"):format(id); end
	self:answer(("<pubsub xmlns='%s'><items node='list'>%s</items></pubsub>"):format(xmlns_pubsub, table.concat(items)));
end

function world_methods:hear(change, attributes)
	local attr = { from = "b.test", to = us, type = "headline" };
	for name, value in pairs(attributes or {}) do attr[name] = value; end
	local stanza = xml.parse(("<message><event xmlns='%s'>%s</event></message>"):format(xmlns_event, change));
	for name, value in pairs(attr) do stanza.attr[name] = value; end
	return self.feeds:hear { stanza = stanza };
end

-- A world in which the node was read.
local function new_world_with(ids, state)
	local world = new_world();
	world:read();
	world:subscribed(state);
	world:items(ids);
	return world;
end

local function names(world)
	return table.concat(world:read().names, " ");
end

local function add(...)
	local items = {};
	for i, id in ipairs { ... } do items[i] = ("<item id='%s'/>"):format(id); end
	return "<items node='list'>" .. table.concat(items) .. "</items>";
end

local function retract(id)
	return ("<items node='list'><retract id='%s'/></items>"):format(id);
end

describe("a node of another server", function ()
	it("is subscribed to and then read, in the host's name", function ()
		local world = new_world();
		assert.same({ state = "loading" }, world:read());
		local subscribe = world.asked[1].iq;
		assert.same({ "a.test", "b.test", "set" }, { subscribe.attr.from, subscribe.attr.to, subscribe.attr.type });
		assert.same({ node = "list", jid = us }, subscribe.tags[1].tags[1].attr);
		world:subscribed();
		assert.equal("items list", world:question());
		assert.equal(10, world.asked[2].seconds);
		assert.same({ state = "loading" }, world:read());
		world:items { "z.test", "a.test" };
		local answer = world:read();
		assert.same({ "ready", 0 }, { answer.state, answer.left_out });
		assert.equal('["a.test","z.test"]', json.encode(answer.names));
		assert.equal(2, #world.asked);
	end);

	it("that is empty has a list of names, as JSON knows lists", function ()
		assert.equal("[]", json.encode(new_world_with({}):read().names));
	end);

	it("is not told again to whoever knows it", function ()
		local world = new_world_with { "a.test" };
		local revision = world:read().revision;
		assert.same({ state = "ready", revision = revision, left_out = 0, unchanged = true }, world:read(revision));
		assert.truthy(world:read("other").names);
	end);

	it("has another revision after a restart", function ()
		local world = new_world_with { "a.test" };
		local revision = world:read().revision;
		world.ids = 100;
		world.feeds = new_feeds(world.feeds.deps);
		world:read();
		world:subscribed();
		world:items { "a.test" };
		assert.not_equal(revision, world:read().revision);
	end);

	it("is read though it cannot be subscribed to, and then again every 15 minutes", function ()
		for _, subscribe in ipairs {
			function (world) world:refuse("not-allowed"); end, function (world) world:answer(nil); end;
			function (world) world:subscribed "pending"; end;
		} do
			local world = new_world();
			world:read();
			subscribe(world);
			world:items { "a.test" };
			assert.equal("a.test", names(world));
			world.time = world.time + 899;
			world:read();
			assert.equal(2, #world.asked);
			world.time = world.time + 1;
			assert.equal("ready", world:read().state);
			assert.equal("subscribe list", world:question());
		end
	end);

	it("is read again after six hours, and keeps its revision where nothing changed", function ()
		local world = new_world_with { "a.test" };
		local revision = world:read().revision;
		world.time = world.time + 6 * 3600;
		assert.is_true(world:read(revision).unchanged);
		world:subscribed();
		world:items { "a.test" };
		assert.is_true(world:read(revision).unchanged);
		world.time = world.time + 6 * 3600;
		world:read();
		world:subscribed();
		world:items { "b.test" };
		assert.equal("b.test", names(world));
	end);

	it("is at another server, and has a name", function ()
		local world = new_world();
		local wrong = {
			{}, { service = "b.test" }, { node = "list" }, { service = "@", node = "list" }, { service = "b.test/x", node = "list" };
			{ service = "a.test", node = "list" }, { service = "user@a.test", node = "list" }, { service = 5, node = "list" };
			{ service = "b.test", node = "" }, { service = "b.test", node = "a\nb" }, { service = "b.test", node = "\255" };
			{ service = "b.test", node = ("x"):rep(1024) }, { service = "b.test", node = {} }, { service = json.null, node = "x" };
			{ service = "b.test", node = "\194\133" }, { service = "b.test", node = "\239\191\191" };
		};
		for i, data in ipairs(wrong) do
			for _, method in ipairs { "read", "forget" } do
				local answer, why, status = world.feeds[method](world.feeds, data);
				assert.same({ "nil", "string", "nil" }, { type(answer), type(why), type(status) }, i);
			end
		end
		assert.same({}, world.asked);
		assert.equal("loading", world.feeds:read({ service = "pubsub@B.test", node = ("ü"):rep(511) }).state);
		assert.equal("pubsub@b.test", world.asked[1].iq.attr.to);
	end);

	it("is one of at most 50", function ()
		local world = new_world();
		for i = 1, 50 do assert.equal("loading", world:read(nil, "list" .. i).state); end
		local answer, why, status = world:read(nil, "list51");
		assert.same({ "nil", "this server follows 50 nodes already, which is as many as it can", 409 }, { type(answer), why, status });
		world.feeds:forget { service = "b.test", node = "list1" };
		assert.equal("loading", world:read(nil, "list51").state);
	end);
end);

describe("a node that cannot be read", function ()
	local function error_of(world)
		local answer, why, status = world:read();
		assert.same({ "nil", 409 }, { type(answer), status });
		return why;
	end

	local function fail(fill)
		local world = new_world();
		world:read();
		world:subscribed();
		fill(world);
		return error_of(world), world;
	end

	it("is refused with the service's own words", function ()
		assert.equal("b.test refused to show the node list: item-not-found",
			(fail(function (world) world:refuse "item-not-found"; end)));
		assert.equal("b.test refused to show the node list: forbidden (not  for you)",
			(fail(function (world) world:refuse("forbidden", "not&#10;\194\133for you"); end)));
		local long = fail(function (world) world:refuse("forbidden", ("ü"):rep(500)); end);
		assert.truthy(#long < 300 and long:find("ü)", 1, true));
		assert.equal("b.test cannot be reached: remote-server-not-found (no such host)",
			(fail(function (world) world:refuse("remote-server-not-found", "no such host"); end)));
		assert.equal("b.test did not answer within 10 s", (fail(function (world) world:answer(nil); end)));
	end);

	it("is refused where what comes is no list of its items", function ()
		for _, payload in ipairs {
			"", "<x/>", "<pubsub xmlns='" .. xmlns_pubsub .. "'/>";
			"<pubsub xmlns='" .. xmlns_pubsub .. "'><items node='other'/></pubsub>";
		} do
			assert.equal("b.test answered without the items of the node list", (fail(function (world) world:answer(payload); end)));
		end
	end);

	it("is asked for again when the bridge asks, at most once a minute", function ()
		local _, world = fail(function (one) one:refuse "item-not-found"; end);
		world.time = world.time + 59;
		error_of(world);
		assert.equal(2, #world.asked);
		world.time = world.time + 1;
		assert.equal("loading", world:read().state);
		world:subscribed();
		world:items { "a.test" };
		assert.equal("a.test", names(world));
	end);

	it("does not load for ever, whatever happens to the question", function ()
		local world = new_world();
		world:read();
		world.time = world.time + 25;
		assert.equal("b.test did not answer within 10 s", error_of(world));
		world:subscribed(); -- too late
		assert.equal(1, #world.asked);
	end);

	it("says so also if it could be read before", function ()
		local world = new_world_with { "a.test" };
		local revision = world:read().revision;
		world.time = world.time + 6 * 3600;
		world:read();
		world:subscribed();
		world:refuse "remote-server-timeout";
		assert.truthy(error_of(world):find("cannot be reached", 1, true));
		world.time = world.time + 60;
		assert.equal("loading", world:read().state);
		world:subscribed();
		world:items { "a.test" };
		assert.equal(revision, world:read().revision);
	end);
end);

describe("what a service tells", function ()
	it("changes the names and the revision, and nothing is asked for", function ()
		local world = new_world_with { "a.test", "b.test" };
		local revision = world:read().revision;
		assert.is_true(world:hear(add("c.test", "d.test")));
		assert.equal("a.test b.test c.test d.test", names(world));
		assert.not_equal(revision, world:read().revision);
		revision = world:read().revision;
		assert.is_true(world:hear(retract "a.test"));
		assert.equal("b.test c.test d.test", names(world));
		assert.not_equal(revision, world:read().revision);
		assert.is_true(world:hear "<purge node='list'/>");
		assert.equal("", names(world));
		assert.equal(2, #world.asked);
	end);

	it("leaves the revision alone where it changes nothing", function ()
		local world = new_world_with { "a.test" };
		local revision = world:read().revision;
		for _, change in ipairs { add "a.test", retract "b.test", "<configuration node='list'/>", "<items node='list'/>" } do
			assert.is_true(world:hear(change));
		end
		assert.equal(revision, world:read().revision);
	end);

	it("counts only if it is that service, its node, and to us", function ()
		local world = new_world_with { "a.test" };
		local revision = world:read().revision;
		for _, attributes in ipairs {
			{ from = "c.test" }, { from = "user@a.test/phone" }, { from = "b.test/x" }, { from = "sub.b.test" }, { from = "a.test" };
			{ to = "a.test" }, { to = "a.test/other" }, { type = "error" };
		} do
			assert.is_nil(world:hear(add "x.test", attributes));
		end
		assert.is_nil(world:hear "<items node='other'><item id='x.test'/></items>");
		assert.is_nil(world:hear "<items><item id='x.test'/></items>");
		assert.is_nil(world:hear "<delete node='other'/>");
		assert.equal(revision, world:read().revision);
	end);

	it("before the node was read is in what is read then", function ()
		local world = new_world();
		world:read();
		world:subscribed();
		assert.is_true(world:hear(retract "a.test"));
		world:items { "b.test" };
		assert.equal("b.test", names(world));
	end);

	it("may be that the node is gone", function ()
		local world = new_world_with { "a.test" };
		assert.is_true(world:hear "<delete node='list'/>");
		local _, why, status = world:read();
		assert.same({ "b.test says that the node list is gone", 409 }, { why, status });
		world:hear(add "x.test");
		world.time = world.time + 60;
		assert.equal("loading", world:read().state);
	end);

	it("makes us read the node again where it makes no sense", function ()
		for _, change in ipairs {
			"<strange node='list'/>", "<items node='list'><strange/></items>", "<items xmlns='x' node='list'/>";
		} do
			local world = new_world_with { "a.test" };
			assert.is_true(world:hear(change));
			world.time = world.time + 60;
			assert.equal("a.test", names(world));
			assert.equal("subscribe list", world:question());
		end
	end);

	it("may be that we are subscribed no longer, and then it is read every 15 minutes", function ()
		local world = new_world_with { "a.test" };
		assert.is_true(world:hear "<subscription node='list' subscription='none'/>");
		world:read();
		assert.equal(2, #world.asked);
		world.time = world.time + 900;
		world:read();
		assert.equal("subscribe list", world:question());
	end);
end);

describe("the names", function ()
	it("are those that can be names; the others are counted", function ()
		local world = new_world_with { "a.test", "a b", "", "x&#10;y", "x&#9;y", ("x"):rep(1024), ("y"):rep(1023), "a.test" };
		local answer = world:read();
		assert.same({ 2, 5 }, { #answer.names, answer.left_out });
		local before = answer.revision;
		world:hear(add "c d");
		assert.equal(before, world:read().revision);
		world.time = world.time + 900;
		world:read();
		assert.equal("subscribe list", world:question());
	end);

	it("are at most 10000, always the same ones", function ()
		local ids = {};
		for i = 10005, 1, -1 do ids[#ids + 1] = ("%05d.test"):format(i); end
		local world = new_world_with(ids);
		local answer = world:read();
		assert.same({ 10000, 5, "00001.test" }, { #answer.names, answer.left_out, answer.names[1] });
		world:hear(add "x.test");
		assert.equal(answer.revision, world:read().revision);
		world:hear(retract "00001.test");
		assert.equal(9999, #world:read().names);
		world.time = world.time + 900;
		world:read();
		assert.equal("subscribe list", world:question());
	end);

	it("fit into an answer, whatever JSON makes of them", function ()
		local ids = {};
		for i = 1, 2000 do ids[i] = ('\\"'):rep(500):gsub('"', "&quot;") .. i; end
		local world = new_world_with(ids);
		local answer = world:read();
		assert.equal(2000, #answer.names + answer.left_out);
		assert.truthy(#json.encode(answer) > 600000 and #json.encode(answer) < 1024 * 1024);
		for i = 1, 2000 do world:hear(add(("z"):rep(1000) .. i)); end
		assert.truthy(#json.encode(world:read()) < 1024 * 1024);
	end);
end);

describe("what is followed", function ()
	it("is let go when the bridge says so", function ()
		local world = new_world_with { "a.test" };
		assert.same({}, world.feeds:forget { service = "b.test", node = "list" });
		assert.equal("unsubscribe list", world:question());
		assert.same({ node = "list", jid = us, subid = "s1" }, world.asked[3].iq.tags[1].tags[1].attr);
		assert.is_nil(world:hear(add "x.test"));
		assert.equal("loading", world:read().state);
	end);

	it("is unsubscribed from also if it was followed before a restart only", function ()
		local world = new_world();
		assert.same({}, world.feeds:forget { service = "b.test", node = "list" });
		assert.equal("unsubscribe list", world:question());
		assert.equal("{}", json.encode(world.feeds:forget { service = "b.test", node = "list" }));
	end);

	it("is let go while it is being read", function ()
		local world = new_world();
		world:read();
		local subscribe = world.asked[1];
		world.feeds:forget { service = "b.test", node = "list" };
		subscribe.callback(nil);
		assert.equal("unsubscribe list", world:question());
		assert.equal(0, world.feeds.count);
	end);

	it("is let go when nobody asked about it for a day", function ()
		local world = new_world_with { "a.test" };
		world.time = world.time + 24 * 3600 - 1;
		world.feeds:sweep();
		assert.equal(2, #world.asked);
		world:read();
		world.time = world.time + 24 * 3600;
		world.feeds:sweep();
		assert.equal("unsubscribe list", world:question());
		assert.same({ 0, nil }, { world.feeds.count, next(world.feeds.feeds) });
	end);
end);
