-- A worker of this queue shows that it lives.
redis.call('ZADD', key('workers', ARGV[1]), now, ARGV[2])
redis.call('ZREMRANGEBYSCORE', key('workers', ARGV[1]), '-inf', now - tonumber(ARGV[3]))
return 1
