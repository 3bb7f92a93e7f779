-- The only way in which a drain ends. 0: not now, a lane may be taken. 1: ended.
-- 2: ended although work is left (a successor was named) and no other drain lives: enqueue the successor.
local queue, drain, list, successor = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local work = redis.call('ZCOUNT', key('lanes', queue), '-inf', now)
if work > 0 and successor == '' then return 0 end
redis.call('ZREM', key('drains', queue), drain)
if work > 0 and reserve(queue, list, successor, tonumber(ARGV[5])) then return 2 end
return 1
