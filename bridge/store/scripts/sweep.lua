-- Append the items of timers that are due to their lanes, at most ARGV[1] of them; answers how many, and the
-- queues that need a job. ARGV[2] = reserve_ms, then for each queue: its name, RQ's list, a drain to reserve.
local due = redis.call('ZRANGEBYSCORE', 'ib:timers', '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
local touched, wake = {}, {}
for _, name in ipairs(due) do
	local queue = redis.call('HGET', 'ib:timer:' .. name, 'queue')
	if queue then
		append(queue, redis.call('HGET', 'ib:timer:' .. name, 'lane'), redis.call('HGET', 'ib:timer:' .. name, 'item'))
		touched[queue] = true
	end
	redis.call('DEL', 'ib:timer:' .. name)
	redis.call('ZREM', 'ib:timers', name)
end
for n = 3, #ARGV, 3 do
	if touched[ARGV[n]] and reserve(ARGV[n], ARGV[n + 1], ARGV[n + 2], tonumber(ARGV[2])) then
		wake[#wake + 1] = ARGV[n]
	end
end
return {#due, wake}
