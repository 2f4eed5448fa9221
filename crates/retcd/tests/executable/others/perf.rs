//! etcdctl's own judgement of a server's speed: a minute of writes, and etcd's idea of enough.

use std::process::Command;

use stdx::tool;

use super::{Home, server};

#[test]
fn etcdctl_is_content_with_our_performance() {
    const TEST: &str = "etcdctl check perf";
    if tool::named("RETCD_CHECK_PERF", TEST).is_none() {
        return;
    }
    let Some(etcdctl) = tool::named("RETCD_ETCDCTL", TEST) else { return };
    let home = Home::new("perf");
    let _server = server(&home);
    let endpoint = home.client_url();
    let check = Command::new(etcdctl).args(["--endpoints", &endpoint, "check", "perf"]).output();
    let check = check.expect("etcdctl");
    let told = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success() && told.ends_with("PASS\n"), "{told}");
}
