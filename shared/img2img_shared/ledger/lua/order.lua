-- What a worker is to do from now on, '' for what it does by itself. Gives 0 when it does not live.
local worker, order = ARGV[1], ARGV[2]
if redis.call('EXISTS', worker_key(worker)) == 0 then return 0 end
if order == '' then
  redis.call('DEL', order_key(worker))
else
  redis.call('SET', order_key(worker), order, 'PX', ORDERS)
end
return 1
