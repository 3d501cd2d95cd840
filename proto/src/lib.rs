//! etcd's v3 wire messages, and the internal messages of the log and of peers.
