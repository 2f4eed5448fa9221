//! `retcd local-cluster`: one command for a cluster to try things out with.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use stdx::port;

use super::put;
use crate::support::client::Client;
use crate::support::process::retcd;
use crate::support::{Folder, block_on, eventually};

#[test]
fn one_command_starts_a_cluster_says_who_leads_and_stops_it_cleanly() {
    block_on(async {
        let folder = Folder::new("local-cluster");
        let said = folder.path().join("said");
        let first = port::free_in_a_row(22);
        let mut process = retcd()
            .args(["local-cluster", "3", "--port", &first.to_string(), "--data-dir"])
            .arg(folder.path().join("data"))
            .stdout(File::create(&said).expect("a file"))
            .stderr(Stdio::null())
            .spawn()
            .expect("the executable");
        eventually("a leader", async || {
            let text = fs::read_to_string(&said).expect("a file");
            text.contains("leads in term").then_some(())
        })
        .await;
        let text = fs::read_to_string(&said).expect("a file");
        assert!(text.starts_with("members 3   quorum 2   failures tolerated 1\n"), "{text}");
        let client = Client::connect(first).await.expect("the first member");
        put(&client, 1, 1).await.expect("a write");
        let asked = Command::new("kill").arg(process.id().to_string()).status();
        assert!(asked.is_ok_and(|status| status.success()), "no signal was sent");
        let status = eventually("the end", async || process.try_wait().expect("a child")).await;
        assert!(status.success(), "{status}");
        for member in 0..3 {
            assert!(Client::connect(first + 10 * member).await.is_err(), "m{} is left", member + 1);
        }
    });
}
