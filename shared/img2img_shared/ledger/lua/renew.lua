-- All leases of a worker, in one call: for each nonce 0 (held on), 1 (lost), 2 (its job was cancelled)
-- or 3 (its job was interrupted).
local model, lease = ARGV[1], tonumber(ARGV[2])
local leases = model_key(model, 'leases')
local answers = {}
for i = 3, #ARGV do
  local nonce = ARGV[i]
  local answer = 0
  if not redis.call('ZSCORE', leases, nonce) then
    pardon(nonce)
    answer = 1
  else
    redis.call('ZADD', leases, NOW + lease, nonce)
    local job = string.match(hget(model_key(model, 'claims'), nonce), '^(%S+) ')
    local h = redis.call('HMGET', job_key(job), 'cancelled', 'interrupted')
    if h[1] then answer = h[2] and 3 or 2 end
  end
  answers[#answers + 1] = answer
end
return answers
