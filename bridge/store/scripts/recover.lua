-- Bring one more drain to lanes that wait, up to one for each worker seen; 1: enqueue it.
-- Nothing is leased, paused or alive for longer than ARGV[6]: what says so was written before the store's clock was
-- set back, by one who may be dead; it gets one more lease (ARGV[7]), which the living prolong.
local queue, list, drain, reserve_ms, seen_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
for _, name in ipairs({'lanes', 'drains', 'workers'}) do
	local far = '(' .. now + tonumber(ARGV[6])
	for _, member in ipairs(redis.call('ZRANGEBYSCORE', key(name, queue), far, '+inf', 'LIMIT', 0, 1000)) do
		redis.call('ZADD', key(name, queue), 'XX', now + tonumber(ARGV[7]), member)
	end
end
if redis.call('ZCOUNT', key('lanes', queue), '-inf', now) == 0 then return 0 end
local workers = redis.call('ZCOUNT', key('workers', queue), now - seen_ms, '+inf')
if drains_alive(queue) >= math.max(workers, 1) then
	ring(queue)
	return 0
end
if redis.call('LLEN', list) > 0 then return 0 end
redis.call('ZREMRANGEBYSCORE', key('drains', queue), '-inf', now)
redis.call('ZADD', key('drains', queue), now + reserve_ms, drain)
return 1
