-- Renews all leases of a worker in one call: for each nonce 0 (renewed), 1 (lost), 2 (its job was cancelled) or 3 (its
-- job was interrupted).
local model, lease = ARGV[1], tonumber(ARGV[2])
local leases = model_key(model, 'leases')
local nonces = {unpack(ARGV, 3)}
local ends = redis.call('ZMSCORE', leases, unpack(nonces))
local claims = redis.call('HMGET', model_key(model, 'claims'), unpack(nonces))
local states = {} -- the answer for claims of each job
local answers, kept = {}, {}
for i, nonce in ipairs(nonces) do
  local id = ends[i] and claims[i] and string.match(claims[i], '^(%S+) ')
  if not id then
    pardon(nonce)
    answers[i] = 1
  else
    if not states[id] then
      local is_there = type_of(job_key(id)) == 'hash'
      local h = is_there and redis.call('HMGET', job_key(id), 'n', 'cancelled', 'interrupted') or {}
      states[id] = not h[1] and 1 or not h[2] and 0 or h[3] and 3 or 2
    end
    answers[i] = states[id]
    if answers[i] == 1 then
      drop(model, nonce)
    else
      kept[#kept + 1] = NOW + lease
      kept[#kept + 1] = nonce
    end
  end
end
if kept[1] then redis.call('ZADD', leases, unpack(kept)) end
return answers
