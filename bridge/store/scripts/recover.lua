-- Bring one more drain to lanes that wait, up to one for each worker seen; 1: enqueue it.
local queue, list, drain, reserve_ms, seen_ms = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
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
