//! Ways to write an address that leads inside, or nowhere, or to two places for two readers.
//! Must never hold one that is good.

use std::net::Ipv4Addr;

/// Addresses in every spelling that some program takes for an address.
pub fn spellings(address: Ipv4Addr) -> Vec<String> {
    let ([a, b, c, d], whole) = (address.octets(), u32::from(address));
    let dotted = address.to_string();
    let wide = dotted.chars().map(|digit| match digit.to_digit(10) {
        Some(digit) => char::from_u32(0xff10 + digit).unwrap(),
        None => '\u{3002}',
    });
    let hosts = vec![
        address.to_string(),
        format!("{address}."),
        whole.to_string(),
        format!("0x{whole:x}"),
        format!("0X{whole:X}"),
        format!("0{whole:o}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("00000{a:o}.{b}.{c}.{d}"),
        format!("{a}.{}", whole & 0x00ff_ffff),
        format!("{a}.{b}.{}", whole & 0xffff),
        format!("0x{a:x}.{b}.0{c:o}.{d}"),
        format!("{a}.{b}.{c}.0{d:o}"),
        format!("{a}%2e{b}%2e{c}%2e{d}"),
        format!("%31{}", &address.to_string()[1..]),
        wide.collect(),
        format!("{a}\u{ff0e}{b}\u{ff0e}{c}\u{ff0e}{d}"),
        format!("[::ffff:{address}]"),
        format!("[::{address}]"),
        format!("[64:ff9b::{address}]"),
        format!("[::ffff:{:x}:{:x}]", whole >> 16, whole & 0xffff),
        format!("[2002:{:x}:{:x}::]", whole >> 16, whole & 0xffff),
        format!("{address}.999"),
        format!("999.{address}"),
    ];
    hosts
}

/// Hosts that are nobody's in public, or not to be understood in one way.
pub fn odd_hosts() -> Vec<String> {
    let long_label = format!("{}.example.com", "a".repeat(64));
    let long = format!("{}com", "abcdefgh.".repeat(30));
    let hosts = [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "a.LocalHost.",
        "local",
        "printer.local",
        "printer.local.",
        "metadata.google.internal",
        "metadata",
        "instance-data",
        "x.internal",
        "db.corp",
        "nas.lan",
        "nas.home",
        "router.home.arpa",
        "a.localdomain",
        "w.intranet",
        "intranet",
        "kubernetes",
        "[::1]",
        "[::]",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[2606:4700::1111]",
        "[fe80::1%25eth0]",
        "[::1",
        "::1",
        "8.8.8.8",
        "1.1.1.1",
        "example.123",
        "1.2.3",
        "1.2.3.4.5",
        "\u{24db}ocalhost",
        "lo\u{ad}calhost",
        "loc\u{e00}.local",
        "\u{ff4c}\u{ff4f}\u{ff43}\u{ff41}\u{ff4c}\u{ff48}\u{ff4f}\u{ff53}\u{ff54}",
        "a..example.com",
        ".example.com",
        "example.com..",
        "local%68ost",
        "127.0.0.1%00.example.com",
        "example.com%2f@127.0.0.1",
        "ex ample.com",
        "",
        "exa_mple",
        "-",
        ".",
        "..",
        "xn--a",
        "xn--",
        "*",
        "a:b",
        "example.com:443:80",
        "0",
        "0x",
        "0x0",
        "00",
    ];
    hosts.iter().map(|host| (*host).to_owned()).chain([long_label, long]).collect()
}

/// What is wrong elsewhere than in the host, for that port.
pub fn odd_urls(port: u16) -> Vec<String> {
    let host = format!("hooks.example.com:{port}");
    let mut urls = vec![
        String::new(),
        "x".into(),
        "/hook".into(),
        "//hooks.example.com/".into(),
        "https:".into(),
        "https://".into(),
        format!("https:///127.0.0.1:{port}/"),
        format!("https:/127.0.0.1:{port}/"),
        format!("https:127.0.0.1:{port}"),
        format!("https:\\\\127.0.0.1:{port}\\"),
        format!("https://{host}\\@127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}\\@{host}/"),
        format!("https://{host}/#x"),
        format!("https://{host}/#"),
        format!("https://u@{host}/"),
        format!("https://u:p@{host}/"),
        format!("https://:p@{host}/"),
        format!("https://@{host}/"),
        format!("https://:@{host}/"),
        format!("https://{host}@127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}@{host}/"),
        format!("https://{host}#@127.0.0.1:{port}/"),
        format!(" https://{host}/"),
        format!("https://{host}/ "),
        format!("https://{host}/a b"),
        format!("https://{host}/\r\nhost: x"),
        format!("https://{host}/\0"),
        format!("ht\ntps://{host}/"),
        format!("https://{host}/\t"),
        format!("https://{host}/\u{a0}"),
        format!("https://{host}/\u{85}"),
        format!("https://{host}/{}", "x".repeat(2_048)),
        format!("https://{host}/{}", "\u{e9}".repeat(1_000)),
    ];
    for scheme in [
        "http",
        "HTTP",
        "ftp",
        "file",
        "gopher",
        "dict",
        "ldap",
        "ws",
        "wss",
        "data",
        "javascript",
        "unix",
        "jar:https",
    ] {
        urls.push(format!("{scheme}://{host}/"));
    }
    for port in [0, 1, 22, 25, 53, 80, 110, 3306, 5432, 6379, 8080, 9200, 11_211, 27_017, 65_535] {
        urls.push(format!("https://hooks.example.com:{port}/"));
    }
    urls.extend(["https://hooks.example.com:65536/".into(), "https://hooks.example.com:-1/".into()]);
    urls
}
