-- Keeps pubsub nodes of the host (XEP-0060) as the bridge wants them: block lists that other servers subscribe to.

local st = require "util.stanza";

local xmlns_pubsub, xmlns_report = "http://jabber.org/protocol/pubsub", "urn:xmpp:reporting:1";
local titles = {
	muc_bans_sha256 = "Accounts and servers kept out of rooms, as SHA-256";
	spam_source_domains = "Servers that are blocked";
	spam_source_jids_sha256 = "Accounts that abuse came from, as SHA-256";
};
local max_id_bytes = 1023;
local changes_at_once = 32; -- each is written to Prosody's storage while everything else waits
local itself = true; -- the actor that may do everything

local lists_methods = {};
local lists_mt = { __index = lists_methods };

-- deps: service(): mod_pubsub's, or nil where it is not loaded; max_items: how many of them a node may hold;
-- log(level, text, ...).
local function new(deps)
	return setmetatable({ deps = deps }, lists_mt);
end

-- The nodes are there from the start, so that others can subscribe before anything is listed.
function lists_methods:open()
	local service = self.deps.service();
	for node, title in pairs(titles) do
		local ok, why = service:create(node, itself, {
			title = title, access_model = "open", persist_items = true, max_items = "max", notify_retract = true;
		});
		if not ok and why ~= "conflict" then
			self.deps.log("error", "Could not make the pubsub node %s: %s", node, tostring(why));
		end
	end
end

local function read_ids(ids, max_items)
	if type(ids) ~= "table" then return nil, "a node's items must be a list"; end
	local wanted, order, left_out = {}, {}, 0;
	for _, id in ipairs(ids) do
		if type(id) ~= "string" or id == "" or #id > max_id_bytes or id:find("[%c%s]") then
			return nil, "an id must be a text of 1 to 1023 bytes without spaces";
		end
		if #order == max_items then
			left_out = left_out + 1;
		elseif not wanted[id] then
			wanted[id], order[#order + 1] = true, id;
		end
	end
	return { wanted = wanted, order = order, left_out = left_out };
end

-- What each node is to hold, or nil and what is wrong with that.
local function read_nodes(nodes, max_items)
	if type(nodes) ~= "table" then return nil, "nodes is missing"; end
	for node in pairs(nodes) do
		if not titles[node] then return nil, "unknown node " .. tostring(node); end
	end
	local read = {};
	for node in pairs(titles) do
		local why;
		read[node], why = read_ids(nodes[node], max_items);
		if not read[node] then return nil, why; end
	end
	return read;
end

local function new_item(id)
	return st.stanza("item", { xmlns = xmlns_pubsub, id = id })
		:tag("report", { xmlns = xmlns_report, reason = "urn:xmpp:reporting:abuse" }):up();
end

-- The changes that a node needs, what is taken back before what is new.
local function find_changes(service, node, read, changes)
	local ok, items = service:get_items(node, itself);
	if not ok then return nil, ("the node %s cannot be read: %s"):format(node, tostring(items)); end
	local present = {};
	for _, id in ipairs(items) do
		present[id] = true;
		if not read.wanted[id] then changes[#changes + 1] = { node = node, id = id, is_retracted = true }; end
	end
	for i = #read.order, 1, -1 do -- the newest last, so that a node that is full drops the oldest
		local id = read.order[i];
		if not present[id] then changes[#changes + 1] = { node = node, id = id }; end
	end
	return true;
end

local function carry_out(service, change)
	if change.is_retracted then
		return service:retract(change.node, itself, change.id, st.stanza("retract", { id = change.id }));
	end
	return service:publish(change.node, itself, change.id, new_item(change.id));
end

-- data: nodes: a list of ids for each node. At most so many changes at once; `more` says that it is to be asked again.
function lists_methods:publish(data)
	local service = self.deps.service();
	if not service then return nil, "this server publishes no lists: set incident_bridge_lists = true for this host", 409; end
	local read, why = read_nodes(data.nodes, self.deps.max_items);
	if not read then return nil, why; end
	local changes, left_out = {}, 0;
	for node, one in pairs(read) do
		left_out = left_out + one.left_out;
		local ok, problem = find_changes(service, node, one, changes);
		if not ok then return nil, problem, 503; end
	end
	local changed = math.min(#changes, changes_at_once);
	for i = 1, changed do
		local ok, problem = carry_out(service, changes[i]);
		if not ok then return nil, ("the node %s cannot be written: %s"):format(changes[i].node, tostring(problem)), 503; end
	end
	return { changed = changed, more = #changes > changed, left_out = left_out };
end

return { new = new };
