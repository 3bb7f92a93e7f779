-- A bounded queue that takes turns between peers and keeps the order within each.

local queue_methods = {};
local queue_mt = { __index = queue_methods };

-- No peer may hold more than an eighth of the queue, but always one place.
local function new(max_items)
	return setmetatable({
		max_items = max_items;
		max_items_of_peer = math.max(1, math.floor(max_items / 8));
		count = 0;
		peers = {}; -- domain -> its turn, a node of the ring
		turn = nil; -- the node whose turn is next
	}, queue_mt);
end

local function unlink(queue, node)
	queue.peers[node.peer] = nil;
	if node.after == node then queue.turn = nil; return; end
	node.before.after, node.after.before = node.after, node.before;
	if queue.turn == node then queue.turn = node.after; end
end

local function link(queue, peer)
	local node = { peer = peer, items = {}, first = 1, last = 0, count = 0 };
	queue.peers[peer] = node;
	local turn = queue.turn;
	if not turn then
		node.before, node.after = node, node;
		queue.turn = node;
	else -- the newcomer is served after everybody who waits already
		node.before, node.after = turn.before, turn;
		turn.before.after = node;
		turn.before = node;
	end
	return node;
end

-- An item has `peer`, the domain it counts for, and `bytes`.
function queue_methods:push(item)
	local node = self.peers[item.peer];
	if self.count >= self.max_items then return nil, "queue-full"; end
	if node and node.count >= self.max_items_of_peer then return nil, "peer-full"; end
	node = node or link(self, item.peer);
	node.last = node.last + 1;
	node.items[node.last] = item;
	node.count = node.count + 1;
	self.count = self.count + 1;
	return true;
end

local function drop_first(queue, node)
	local item = node.items[node.first];
	node.items[node.first] = nil;
	node.first = node.first + 1;
	node.count = node.count - 1;
	queue.count = queue.count - 1;
	if node.count == 0 then unlink(queue, node); end
	return item;
end

-- Takes the peer's oldest item off if it is this one; items of one peer grow old in order.
function queue_methods:remove_oldest(item)
	local node = self.peers[item.peer];
	if not node or node.items[node.first] ~= item then return false; end
	drop_first(self, node);
	return true;
end

-- The next items in turn, while there are fewer than max_items and they fit into max_bytes.
function queue_methods:take(max_items, max_bytes)
	local taken, bytes = {}, 0;
	while self.turn and #taken < max_items do
		local node = self.turn;
		local item = node.items[node.first];
		bytes = bytes + item.bytes;
		if bytes > max_bytes and taken[1] then break; end
		self.turn = node.after;
		taken[#taken + 1] = drop_first(self, node);
	end
	return taken;
end

return { new = new };
