-- Gives a worker an order; '' takes it back. Returns 0 if the worker is not alive.
local worker, order, by = ARGV[1], ARGV[2], ARGV[3]
if redis.call('EXISTS', worker_key(worker)) == 0 then return 0 end
if order == '' then
  redis.call('DEL', order_key(worker))
else
  redis.call('SET', order_key(worker), order, 'PX', ORDERS)
end
audit(by, '', order == '' and 'enable' or order, worker)
return 1
