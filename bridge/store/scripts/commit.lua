-- Carry out one Change, all or nothing. ARGV[1] is a JSON header without binary; after it come, in this order:
-- finished items, appended items, event bodies, and commands (argument count, then the arguments).
local h = cjson.decode(ARGV[1])

if h.once then
	local answer = redis.call('GET', h.once)
	if answer then
		-- The caller waits until a replica has what this writes, and so everything before it, the answer too.
		if h.has_replicas then redis.call('INCR', 'ib:seen') end
		return {'SEEN', answer}
	end
end
for _, lease in ipairs(h.leases) do
	if redis.call('HGET', key('held', lease[1]), lease[2]) ~= lease[3] then return {'FENCED', lease[2]} end
end
for _, check in ipairs(h.versions) do
	if (redis.call('HGET', check[1], 'v') or '') ~= check[2] then return {'STALE', check[1]} end
end
for _, name in ipairs(h.absent) do
	if redis.call('EXISTS', name) == 1 then return {'STALE', name} end
end
local at = 2
for _, lease in ipairs(h.leases) do
	for _ = 1, lease[4] do
		if not redis.call('LPOS', key('lane', lease[1], lease[2]), ARGV[at], 'MAXLEN', 256) then
			return {'FENCED', lease[2]}
		end
		at = at + 1
	end
end

-- From here on nothing may fail.
local touched = {}
for _, lane in ipairs(h.appends) do
	append(lane[1], lane[2], ARGV[at])
	touched[lane[1]] = true
	at = at + 1
end
for _, event in ipairs(h.events) do
	local stream, counter, endpoints, lane = unpack(event)
	local sequence = redis.call('INCR', counter)
	redis.call('XADD', stream, string.format('%d-0', sequence), 'e', ARGV[at])
	if redis.call('EXISTS', endpoints) == 1 then
		append('deliveries', lane, string.format('{"id":"%s-%d"}', lane, sequence))
		touched.deliveries = true
	end
	at = at + 1
end
for _ = 1, h.commands do
	local count = tonumber(ARGV[at])
	redis.call(unpack(ARGV, at + 1, at + count))
	at = at + count + 1
end
for _, mark in ipairs(h.marks) do
	if redis.call('EXISTS', mark[1]) == 1 then redis.call('HSET', unpack(mark)) end
end
for _, tally in ipairs(h.tallies) do
	if redis.call('HINCRBY', tally[1], tally[2], tally[3]) <= 0 then redis.call('HDEL', tally[1], tally[2]) end
end

local left, following, wake = {}, {}, {}
at = 2
for n, lease in ipairs(h.leases) do
	local queue, lane = lease[1], lease[2]
	for _ = 1, lease[4] do
		redis.call('LREM', key('lane', queue, lane), 1, ARGV[at])
		at = at + 1
	end
	left[n] = redis.call('LLEN', key('lane', queue, lane))
	following[n] = {}
	redis.call('HDEL', key('tries', queue), lane)
	if h.keep and left[n] > 0 then
		redis.call('ZADD', key('lanes', queue), 'XX', now + h.lease_ms, lane)
		following[n] = redis.call('LRANGE', key('lane', queue, lane), 0, h.keep - 1)
	else
		give_back(queue, lane, 0)
	end
end
for queue, spare in pairs(h.spares) do
	if touched[queue] and reserve(queue, spare[1], spare[2], h.reserve_ms) then wake[#wake + 1] = queue end
end
return {'OK', left, following, wake}
