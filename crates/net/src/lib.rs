//! How ocib speaks HTTP: TLS, proxies, retry and where credentials may go.
