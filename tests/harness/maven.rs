//! Libraries and programs of Maven's registry, fetched on first use.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::host::root;

/// An artifact: group, name and version.
pub type Artifact<'a> = (&'a str, &'a str, &'a str);

/// What these artifacts need with them, for `java -cp`; it lies in `target/` under a name of its own.
pub fn class_path(name: &str, artifacts: &[Artifact<'_>]) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _lock = ONE_AT_A_TIME.lock();
    let folder = root().join("target").join(name);
    let wanted = artifacts.iter().map(|(group, name, version)| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        )
    });
    let pom = format!(
        "<project><modelVersion>4.0.0</modelVersion><groupId>x</groupId><artifactId>x</artifactId><version>1</version><packaging>pom</packaging><dependencies>{}</dependencies></project>",
        wanted.collect::<String>()
    );
    let done = folder.join("fetched.xml");
    if fs::read_to_string(&done).ok().as_ref() != Some(&pom) {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("because target is ours");
        fs::write(folder.join("pom.xml"), &pom).expect("because the folder is ours");
        let fetched = Command::new("mvn")
            .args(["-q", "-B", "dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=libs"])
            .current_dir(&folder)
            .stdin(Stdio::null())
            .status();
        assert!(fetched.is_ok_and(|s| s.success()), "mvn (package maven) fetches {name}");
        fs::write(&done, pom).expect("because the folder is ours");
    }
    folder.join("libs/*")
}
