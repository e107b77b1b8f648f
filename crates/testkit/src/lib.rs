//! Real registries and other peers for ocib's tests.
