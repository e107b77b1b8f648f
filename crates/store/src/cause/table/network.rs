//! What goes wrong before a registry understands the question.

use ocib_image::PlaceErrorKind::{Corrupt, Local, Refused, Unreachable};

use super::{Cause, cause};

pub(super) const CAUSES: [Cause; 17] = [
    cause(
        "dns",
        "the host's name is not known",
        "check the spelling of the host and the resolver here (in a pod: its DNS policy); behind a proxy set \
         HTTPS_PROXY",
        Unreachable,
        &[
            &["failed to lookup address"],
            &["dns error"],
            &["no such host"],
            &["name or service not known"],
            &["name resolution"],
            &["could not resolve host"],
            &["could not connect to the endpoint url"],
        ],
    ),
    cause(
        "connection-refused",
        "nothing listens at this host and port",
        "check the host name, the port and the proxy; nothing was published, and the same command can be run again",
        Unreachable,
        &[&["connection refused"]],
    ),
    cause(
        "network-unreachable",
        "there is no way to the host",
        "check routes, firewalls and network policies; a private registry may need a VPN or an endpoint",
        Unreachable,
        &[&["network is unreachable"], &["no route to host"], &["network unreachable"]],
    ),
    cause(
        "certificate-expired",
        "the server's certificate is past its end",
        "have it renewed, and check the clock here",
        Unreachable,
        &[&["certificate", "expired"]],
    ),
    cause(
        "certificate-name",
        "the server's certificate is for another name",
        "use a name that the certificate has; a proxy or a wrong address may have answered",
        Unreachable,
        &[
            &["notvalidforname"],
            &["certificate not valid for name"],
            &["certificate is valid for"],
            &["hostname mismatch"],
        ],
    ),
    cause(
        "certificate-unknown",
        "nobody who is trusted here has signed the server's certificate",
        "give the issuer's certificate with --ca-file; if HTTPS_PROXY is set, the proxy's",
        Unreachable,
        &[
            &["certificate is not trusted"],
            &["unknownissuer"],
            &["signed by unknown authority"],
            &["unable to get local issuer certificate"],
            &["certificate verify failed"],
            &["self-signed certificate"],
            &["self signed certificate"],
        ],
    ),
    cause(
        "no-system-certificates",
        "there are no certificates to trust here",
        "install `ca-certificates`, or set SSL_CERT_FILE",
        Local,
        &[&["https cannot be used"], &["no ca certificates were loaded"]],
    ),
    cause(
        "http-on-https",
        "plain http was spoken to a port of https",
        "the port wants https: give its certificate with --ca-file, or name the host with --insecure-registry",
        Refused,
        &[&["http request to an https server"], &["plain http request was sent to https port"]],
    ),
    cause(
        "https-on-http",
        "https was spoken to a port of plain http",
        "name the host with --insecure-registry if the network to it can be trusted, else give the registry TLS",
        Unreachable,
        &[
            &["http response to https client"],
            &["tls handshake eof"],
            &["invalidcontenttype"],
            &["wrong version number"],
            &["first record does not look like a tls handshake"],
        ],
    ),
    cause(
        "plain-http-refused",
        "plain http is for loopback and for hosts that are named",
        "use https, or name the host with --insecure-registry if the network to it can be trusted",
        Refused,
        &[&["is not asked: plain http"], &["its scheme is unknown"]],
    ),
    cause(
        "redirect-refused",
        "a redirect leads where ocib does not go",
        "from https it never goes to http, and after ten redirects no further: mend the registry's own URL \
         (`externalurl`, `http.host`)",
        Refused,
        &[&["which is not followed"]],
    ),
    cause(
        "stalled",
        "the connection stood still",
        "run the command again: what has arrived is not sent again; if it happens each time, look at proxies and \
         load balancers with idle limits",
        Unreachable,
        &[&["no progress for"]],
    ),
    cause(
        "connection-timeout",
        "no answer came in time",
        "check that firewalls let the port through, and the proxy; a silent drop looks like this",
        Unreachable,
        &[&["timed out"], &["i/o timeout"], &["deadline"], &["timeout exceeded"], &["timeout awaiting"]],
    ),
    cause(
        "connection-reset",
        "the connection broke off",
        "run the command again: what has arrived is not sent again; ECR hangs up like this where a repository is \
         missing, and proxies where a body is too large",
        Unreachable,
        &[
            &["connection reset"],
            &["broken pipe"],
            &["unexpected eof"],
            &["connection closed before"],
            &["end of file before"],
            &["error reading a body"],
            &["connection error"],
            &["use of closed network connection"],
        ],
    ),
    cause(
        "answer-too-long",
        "the answer is longer than its kind may be",
        "what answers is no registry, or the document was tampered with: ask for it with curl and look",
        Corrupt,
        &[&["answered with more than"]],
    ),
    cause(
        "html-instead-of-json",
        "a web page came in place of a registry's answer",
        "the host is a website, a login page or a proxy: check host and path, and NO_PROXY",
        Refused,
        &[
            &["<html"],
            &["<!doctype html"],
            &["invalid character '<' looking for beginning of value"],
            &["text/html"],
        ],
    ),
    cause(
        "incomplete-answer",
        "the answer lacks what every registry sends",
        "what answers may be no registry, or a proxy that drops headers: check host and path, and NO_PROXY",
        Corrupt,
        &[&["answered without"]],
    ),
];
