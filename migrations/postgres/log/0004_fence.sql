-- Each append looks the fence up. While somebody keeps a snapshot open, for a backup say, the row's old versions are kept, one
-- for each turn of two processes that contend: by this index an append finds the newest one without passing over them.
CREATE INDEX log_identity_fence ON log_identity (fence);
