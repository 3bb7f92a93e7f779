-- Reads pubsub nodes of other servers (XEP-0060) for the bridge and follows their changes: block lists that others publish.
-- Only the ids of the items count. All is in memory: what is forgotten is read again.

local array = require "util.array";
local jid = require "util.jid";
local json = require "util.json";
local st = require "util.stanza";
local is_utf8 = require "util.encodings".utf8.valid;

local xmlns_pubsub, xmlns_event = "http://jabber.org/protocol/pubsub", "http://jabber.org/protocol/pubsub#event";
-- A subscriber of its own, so that others on this host may follow the same node and end that as they like.
local resource = "incident-bridge";
local max_feeds = 50;
local max_ids, max_bytes = 10000, 700000; -- bytes as JSON has them, so that an answer is below 1 MiB
local max_name_bytes, max_text_bytes = 1023, 200;
local answer_seconds = 10;
local again_seconds = 6 * 3600; -- where the service tells what changes
local unsubscribed_seconds = 15 * 60; -- where it does not, or there is more than we keep
local failed_seconds = 60;
local forget_seconds = 24 * 3600;

local refused_characters = { "%c", "\194[\128-\159]", "\239\191[\190\191]" }; -- see notice.lib.lua
local unreachable = { ["remote-server-not-found"] = true, ["remote-server-timeout"] = true };

local feeds_methods = {};
local feeds_mt = { __index = feeds_methods };

-- deps: host; is_local_domain(domain); now() -> seconds that only grow; new_id();
-- ask(iq, seconds, callback(reply)): the result or error, or nil where there was none in that time.
local function new(deps)
	return setmetatable({
		deps = deps;
		jid = deps.host .. "/" .. resource;
		feeds = {}; -- by service and node
		count = 0;
		instance = deps.new_id();
		revisions = 0;
	}, feeds_mt);
end

local function key_of(service, node)
	return service .. "\0" .. node;
end

local function is_name(text)
	if type(text) ~= "string" or text == "" or #text > max_name_bytes or not is_utf8(text) then return false; end
	for _, pattern in ipairs(refused_characters) do
		if text:find(pattern) then return false; end
	end
	return true;
end

local function is_id(text)
	return is_name(text) and not text:find(" ", 1, true);
end

-- The service's JID and the node, or nil and what is wrong with them.
local function read_place(self, data)
	local service = type(data.service) == "string" and jid.prep(data.service) or nil;
	local _, domain, with_resource = jid.split(service);
	if not domain or with_resource then return nil, "service must be the bare JID of a pubsub service"; end
	if self.deps.is_local_domain(domain) then return nil, "service is at a domain of this server"; end
	if not is_name(data.node) then return nil, "node must be a text of 1 to 1023 bytes without control characters"; end
	return service, data.node;
end

local function new_iq(self, feed, type)
	return st.iq({ type = type, id = self.deps.new_id(), from = self.deps.host, to = feed.service })
		:tag("pubsub", { xmlns = xmlns_pubsub });
end

-- Called where the set has changed.
local function renew(self, feed)
	self.revisions = self.revisions + 1;
	feed.revision = ("%s-%d"):format(self.instance, self.revisions);
	feed.names = nil;
end

local function read_again_in(self, feed, seconds)
	feed.again_at = math.min(feed.again_at, self.deps.now() + seconds);
end

local function fail(self, feed, why)
	feed.reading, feed.error = nil, why;
	feed.again_at = self.deps.now() + failed_seconds;
end

-- What a server wrote, as one line of bounded length.
local function harmless(text)
	for _, pattern in ipairs(refused_characters) do text = text:gsub(pattern, " "); end
	if #text <= max_text_bytes then return text; end
	text = text:sub(1, max_text_bytes);
	while not is_utf8(text) do text = text:sub(1, -2); end
	return text;
end

local function no_answer(feed)
	return ("%s did not answer within %d s"):format(feed.service, answer_seconds);
end

local function describe_error(feed, reply)
	local _, condition, text = reply:get_error();
	condition = condition or "undefined-condition";
	local what = text and ("%s (%s)"):format(condition, harmless(text)) or condition;
	if unreachable[condition] then return ("%s cannot be reached: %s"):format(feed.service, what); end
	return ("%s refused to show the node %s: %s"):format(feed.service, feed.node, what);
end

-- The ids in a reply, in its order, or nil and why there are none.
local function read_reply(feed, reply)
	if not reply then return nil, no_answer(feed); end
	if reply.attr.type == "error" then return nil, describe_error(feed, reply); end
	local pubsub = reply:get_child("pubsub", xmlns_pubsub);
	local items = pubsub and pubsub:get_child("items");
	if not items or (items.attr.node or feed.node) ~= feed.node then
		return nil, ("%s answered without the items of the node %s"):format(feed.service, feed.node);
	end
	local ids = {};
	for item in items:childtags("item") do ids[#ids + 1] = item.attr.id or ""; end
	return ids;
end

local function cost_of(id)
	return #json.encode(id) + 1;
end

-- Which of them are kept: the first in their own order, so that it is the same whatever order they came in.
local function choose(ids)
	local good, known, left_out = {}, {}, 0;
	for _, id in ipairs(ids) do
		if not is_id(id) then
			left_out = left_out + 1;
		elseif not known[id] then
			known[id], good[#good + 1] = true, id;
		end
	end
	table.sort(good);
	local chosen = { ids = {}, count = 0, bytes = 0 };
	for _, id in ipairs(good) do
		local bytes = chosen.bytes + cost_of(id);
		if chosen.count == max_ids or bytes > max_bytes then break; end
		chosen.ids[id], chosen.count, chosen.bytes = true, chosen.count + 1, bytes;
	end
	chosen.left_out = left_out + #good - chosen.count;
	return chosen;
end

local function is_same_set(feed, chosen)
	if not feed.ids or feed.count ~= chosen.count then return false; end
	for id in pairs(chosen.ids) do
		if not feed.ids[id] then return false; end
	end
	return true;
end

local function keep(self, feed, chosen)
	local is_same = is_same_set(feed, chosen);
	feed.ids, feed.count, feed.bytes, feed.left_out = chosen.ids, chosen.count, chosen.bytes, chosen.left_out;
	if not is_same then renew(self, feed); end
end

local function finish(self, feed, reply)
	local ids, why = read_reply(feed, reply);
	if not ids then return fail(self, feed, why); end
	feed.reading, feed.error = nil, nil;
	keep(self, feed, choose(ids));
	local is_followed = feed.is_subscribed and feed.left_out == 0;
	feed.again_at = self.deps.now() + (is_followed and again_seconds or unsubscribed_seconds);
end

local function take_subscription(feed, reply)
	local pubsub = reply and reply.attr.type == "result" and reply:get_child("pubsub", xmlns_pubsub);
	local subscription = pubsub and pubsub:get_child("subscription");
	local state = subscription and subscription.attr.subscription or "subscribed"; -- an empty result means the same
	feed.is_subscribed = reply ~= nil and reply.attr.type == "result" and state == "subscribed";
	feed.subid = subscription and subscription.attr.subid;
end

-- Subscribes and then reads, in this order, so that no change is missed in between. Without a subscription it is read
-- all the same, only more often.
local function start(self, feed)
	local reading = { ends_at = self.deps.now() + 2 * answer_seconds + 5 };
	feed.reading = reading;
	local subscribe = new_iq(self, feed, "set"):tag("subscribe", { node = feed.node, jid = self.jid });
	self.deps.ask(subscribe, answer_seconds, function (subscribed)
		if feed.reading ~= reading then return; end
		take_subscription(feed, subscribed);
		local get = new_iq(self, feed, "get"):tag("items", { node = feed.node });
		self.deps.ask(get, answer_seconds, function (reply)
			if feed.reading == reading then finish(self, feed, reply); end
		end);
	end);
end

local function unsubscribe(self, place)
	local attr = { node = place.node, jid = self.jid, subid = place.subid };
	self.deps.ask(new_iq(self, place, "set"):tag("unsubscribe", attr), answer_seconds, function () end);
end

local function forget(self, key)
	local feed = self.feeds[key];
	feed.reading = nil;
	self.feeds[key], self.count = nil, self.count - 1;
	unsubscribe(self, feed);
end

local function names_of(feed)
	if not feed.names then
		feed.names = array();
		for id in pairs(feed.ids) do feed.names:push(id); end
		table.sort(feed.names);
	end
	return feed.names;
end

local function find(self, service, node)
	local key = key_of(service, node);
	local feed = self.feeds[key];
	if feed then return feed; end
	if self.count == max_feeds then
		return nil, ("this server follows %d nodes already, which is as many as it can"):format(max_feeds);
	end
	feed = { service = service, node = node, again_at = self.deps.now() };
	self.feeds[key], self.count = feed, self.count + 1;
	return feed;
end

-- data: service, node, known: the revision that the bridge has. The answer's `state` is "loading" (ask again soon) or
-- "ready"; then it has the revision and, where that is another one, all names. Or nil, why not, and the status.
function feeds_methods:read(data)
	local service, node = read_place(self, data);
	if not service then return nil, node; end
	local feed, why = find(self, service, node);
	if not feed then return nil, why, 409; end
	local now = self.deps.now();
	feed.asked_at = now;
	if feed.reading and now >= feed.reading.ends_at then fail(self, feed, no_answer(feed)); end
	if not feed.reading and now >= feed.again_at then start(self, feed); end
	if feed.reading and (feed.error or not feed.ids) then return { state = "loading" }; end
	if feed.error then return nil, feed.error, 409; end
	local content = { state = "ready", revision = feed.revision, left_out = feed.left_out };
	if data.known == feed.revision then content.unchanged = true; else content.names = names_of(feed); end
	return content;
end

-- data: service, node. Unsubscribes also from what is not in memory any more: it may have been before a restart.
function feeds_methods:forget(data)
	local service, node = read_place(self, data);
	if not service then return nil, node; end
	local key = key_of(service, node);
	if self.feeds[key] then forget(self, key); else unsubscribe(self, { service = service, node = node }); end
	return {};
end

-- Lets go what nobody has asked about for a day; to be called now and then.
function feeds_methods:sweep()
	local now = self.deps.now();
	for key, feed in pairs(self.feeds) do
		if now - feed.asked_at >= forget_seconds then forget(self, key); end
	end
end

local function add(self, feed, id)
	if not is_id(id) then return read_again_in(self, feed, unsubscribed_seconds); end
	if feed.ids[id] then return; end
	local bytes = feed.bytes + cost_of(id);
	if feed.count == max_ids or bytes > max_bytes then return read_again_in(self, feed, unsubscribed_seconds); end
	feed.ids[id], feed.count, feed.bytes = true, feed.count + 1, bytes;
	renew(self, feed);
end

local function remove(self, feed, id)
	if feed.left_out > 0 then read_again_in(self, feed, unsubscribed_seconds); end -- it was one of those, or makes room
	if not id or not feed.ids[id] then return; end
	feed.ids[id], feed.count, feed.bytes = nil, feed.count - 1, feed.bytes - cost_of(id);
	renew(self, feed);
end

local changes = {};

function changes.items(self, feed, items)
	if not feed.ids then return; end -- it is being read, or will be
	for _, change in ipairs(items.tags) do
		if change.name == "item" then
			add(self, feed, change.attr.id);
		elseif change.name == "retract" then
			remove(self, feed, change.attr.id);
		else
			read_again_in(self, feed, failed_seconds);
		end
	end
end

function changes.purge(self, feed)
	if feed.ids then keep(self, feed, choose {}); end
end

function changes.delete(self, feed)
	fail(self, feed, ("%s says that the node %s is gone"):format(feed.service, feed.node));
	feed.ids, feed.is_subscribed = nil, false;
end

function changes.subscription(self, feed, subscription)
	feed.is_subscribed = subscription.attr.subscription == "subscribed";
	if not feed.is_subscribed then read_again_in(self, feed, unsubscribed_seconds); end
end

function changes.configuration() end

-- A message to the host. True if it is to us, from a service, about a node of it that we follow; all others are left to
-- others.
function feeds_methods:hear(event)
	local attr, is_ours = event.stanza.attr, nil;
	if attr.to ~= self.jid or attr.type == "error" or not attr.from then return; end
	for container in event.stanza:childtags("event", xmlns_event) do
		for _, change in ipairs(container.tags) do
			local feed = change.attr.node and self.feeds[key_of(attr.from, change.attr.node)];
			if feed then
				is_ours = true;
				local apply = change.attr.xmlns == xmlns_event and changes[change.name];
				if apply then apply(self, feed, change); else read_again_in(self, feed, failed_seconds); end
			end
		end
	end
	return is_ours;
end

return { new = new };
