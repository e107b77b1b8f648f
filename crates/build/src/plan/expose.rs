//! EXPOSE: which ports its words mean (BuildKit, `dockerfile2llb/convert_expose.go`).

/// The `port/protocol`s that `written` means: `[[address:]host port:]port[-port][/protocol]`, of
/// which only the container's own ports and the protocol count.
pub(super) fn ports(written: &str) -> Result<Vec<String>, String> {
    let mut parts: Vec<&str> = written.rsplitn(3, ':').collect();
    parts.reverse();
    let (address, host, container) = match parts[..] {
        [container] => ("", "", container),
        [host, container] => ("", host, container),
        [address, host, container] => (address, host, container),
        _ => unreachable!("rsplitn gives one to three parts"),
    };
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(format!("no port specified: {container}<empty>"));
    }
    let protocol = match &*protocol.to_lowercase() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        other => return Err(format!("invalid proto: {other}")),
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if !address.is_empty() && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    let (start, end) = range(port).ok_or_else(|| format!("invalid containerPort: {port}"))?;
    if !host.is_empty() {
        let (host_start, host_end) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if end - start != host_end - host_start && end != start {
            return Err(format!("invalid ranges specified for container and host Ports: {port} and {host}"));
        }
    }
    Ok((start..=end).map(|port| format!("{port}/{protocol}")).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
    match text.split_once('-') {
        None => number(text).map(|port| (port, port)),
        Some((start, end)) => {
            let (start, end) = (number(start)?, number(end)?);
            (start <= end).then_some((start, end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_as_buildkit_reads_them() {
        for (written, expected) in [
            ("80", Ok(vec!["80/tcp"])),
            ("93/", Ok(vec!["93/tcp"])),
            ("0/UDP", Ok(vec!["0/udp"])),
            ("8000-8002/sctp", Ok(vec!["8000/sctp", "8001/sctp", "8002/sctp"])),
            ("127.0.0.1:1:2", Ok(vec!["2/tcp"])),
            ("[::1]:1:2/udp", Ok(vec!["2/udp"])),
            ("x", Err("invalid containerPort: x")),
            ("70000", Err("invalid containerPort: 70000")),
            ("9-8", Err("invalid containerPort: 9-8")),
            ("/tcp", Err("no port specified: /tcp<empty>")),
            ("80/icmp", Err("invalid proto: icmp")),
            ("a:1:2", Err("invalid IP address: a")),
        ] {
            let expected =
                expected.map(|ports| ports.into_iter().map(str::to_owned).collect()).map_err(str::to_owned);
            assert_eq!(ports(written), expected, "{written}");
        }
    }
}
