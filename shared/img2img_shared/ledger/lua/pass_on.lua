-- A worker lacks a file for an image that others have: for `turn` ms only these may claim it, as long as one of them is
-- there; with `all` = 1, the same holds for its whole job. Returns 0 if the attempt is not the current one, 1 if the
-- image waits again.
local model, nonce, turn, all = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local claim = drop(model, nonce)
if not claim then return 0 end
local which = all == '1' and all_for(claim.worker) or claim.index
redis.call('HSET', job_key(claim.job.id, 'lacking'), which, cmsgpack.pack({NOW + turn, {unpack(ARGV, 5)}}))
hand_back(claim, 0)
return 1
