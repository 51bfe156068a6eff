//! A whole server: a Debian of its own with systemd as PID 1, booted in namespaces, on a cable of a
//! [`Network`](crate::Network). It can be switched off and booted again, and keeps its disk over that.
//!
//! The tree that it boots from is made by `tests/machines.sh` and shared; what a machine writes goes to an upper layer
//! of its own. Commands are run in it from outside, as by somebody at its console.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    Output,
    cgroups::{Cgroups, LIMITING},
    eventually, processes,
};

/// Most that a boot may take, and a shutdown in which servers save.
const BOOT: Duration = Duration::from_secs(60);

/// See the module. Fields drop in this order: its processes, its cgroups, its disk.
#[derive(Debug)]
pub struct Machine {
    name: String,
    namespace: String,
    power: Option<Power>,
    cgroups: Cgroups,
    disk: Disk,
}

/// What runs while it is on.
#[derive(Debug)]
struct Power {
    nspawn: Child,
    /// PID 1 of the machine, as seen from here; none before there is one.
    init: Option<i32>,
}

/// The shared tree below, and what the machine has written above it.
#[derive(Debug)]
struct Disk {
    root: PathBuf,
}

impl Machine {
    /// One that is switched off. Its disk is below `home`; `namespace` is the network's, where its cable is.
    ///
    /// # Panics
    /// When the tree is not there: `make test-machines` makes it.
    pub fn new(name: &str, namespace: &str, home: &Path) -> Self {
        let machine = Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            power: None,
            cgroups: Cgroups::new(namespace),
            disk: Disk::mount(&home.join(name)),
        };
        fs::write(machine.path("/etc/hostname"), format!("{name}\n")).unwrap();
        machine
    }

    /// A path of its disk, as seen from here. What is mounted in the machine over it, `/run` and `/tmp`, is not seen.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.disk.root.join(inside.trim_start_matches('/'))
    }

    /// Switches it on, and does not wait.
    pub fn switch_on(&mut self) {
        assert!(self.power.is_none(), "{} is on", self.name);
        let nspawn = "exec systemd-nspawn --quiet --boot --register=no --keep-unit --console=pipe --machine=\"$1\" \
                      --directory=\"$2\" --network-namespace-path=\"/run/netns/$3\"";
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{}{nspawn}", self.cgroups.enter()), "sh", &self.name]);
        command.arg(&self.disk.root).arg(&self.namespace);
        let console = fs::File::create(self.disk.root.with_extension("console")).unwrap();
        command.stdin(Stdio::null()).stderr(console.try_clone().unwrap()).stdout(console);
        self.power = Some(Power { nspawn: processes::spawn_owned(&mut command), init: None });
    }

    /// Waits until it is up.
    pub fn until_up(&mut self) {
        let name = self.name.clone();
        eventually(BOOT, &format!("{name} has booted"), || self.booted());
        // The old controllers are mounted read-only; systemd looks what it may write to when it starts.
        let old: Vec<_> =
            LIMITING.iter().filter(|name| Path::new("/sys/fs/cgroup").join(name).join("tasks").exists()).collect();
        for controller in &old {
            self.run(&["mount", "-o", "remount,bind,rw", &format!("/sys/fs/cgroup/{controller}")]).expect(0);
        }
        if !old.is_empty() {
            self.run(&["systemctl", "daemon-reexec"]).expect(0);
            eventually(BOOT, &format!("{name} is up"), || self.booted());
        }
    }

    fn booted(&mut self) -> Result<(), String> {
        let power = self.power.as_mut().ok_or("it is off")?;
        if let Ok(Some(status)) = power.nspawn.try_wait() {
            return Err(format!("systemd-nspawn has ended: {status}; {}", self.console()));
        }
        let nspawn = i32::try_from(power.nspawn.id()).unwrap();
        power.init = processes::children(nspawn).into_iter().find(|child| child.name == "systemd").map(|it| it.pid);
        power.init.ok_or("there is no systemd yet")?;
        let state = self.run(&["systemctl", "is-system-running"]);
        match state.stdout.trim() {
            "running" => Ok(()),
            "degraded" => Err(self.run(&["systemctl", "--failed", "--no-pager"]).stdout),
            _ => Err(state.to_string()),
        }
    }

    /// The end of what it wrote to its console.
    fn console(&self) -> String {
        let text = fs::read(self.disk.root.with_extension("console")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(2000)..]).into_owned()
    }

    /// Tells it to switch itself off, as `systemctl poweroff` does.
    pub fn switch_off(&self) {
        self.run(&["systemctl", "poweroff"]).expect(0);
    }

    /// Waits until it is off.
    pub fn until_off(&mut self) {
        let mut power = self.power.take().unwrap_or_else(|| panic!("{} is off", self.name));
        eventually(BOOT, &format!("{} is off", self.name), || match power.nspawn.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}; {}", self.console())),
        });
        processes::wait_owned(&mut power.nspawn);
    }

    /// Runs a command in it as root, to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.fed(words, "")
    }

    /// The same, with something on its standard input.
    pub fn fed(&self, words: &[&str], input: &str) -> Output {
        let init = self.power.as_ref().and_then(|power| power.init);
        let init = init.unwrap_or_else(|| panic!("{} is not up", self.name)).to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &init, "--all", "--"]).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
        processes::run_fed(&mut command, input).into()
    }

    /// What a command has written, which must succeed.
    #[track_caller]
    pub fn said(&self, words: &[&str]) -> String {
        let said = self.run(words);
        assert_eq!(said.code, 0, "on {}: {words:?}: {said}\n{}", self.name, self.journal());
        said.stdout.trim_end().to_owned()
    }

    /// The end of its journal.
    pub fn journal(&self) -> String {
        self.run(&["journalctl", "--no-pager", "--lines=40", "--output=cat"]).stdout
    }

    /// A line of a shell, which must succeed.
    #[track_caller]
    pub fn shell(&self, line: &str) -> String {
        self.said(&["sh", "-ec", line])
    }

    /// A property of a unit.
    #[track_caller]
    pub fn property(&self, unit: &str, property: &str) -> String {
        self.said(&["systemctl", "show", "--value", "--property", property, unit])
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Some(mut power) = self.power.take() else { return };
        // With PID 1 goes everything in its pid namespace. Before there is one, nspawn itself is all.
        let nspawn = i32::try_from(power.nspawn.id()).unwrap();
        for child in processes::children(nspawn) {
            processes::signal(child.pid, Signal::SIGKILL);
        }
        if power.init.is_none() {
            processes::signal(nspawn, Signal::SIGKILL);
        }
        processes::wait_owned(&mut power.nspawn);
    }
}

impl Disk {
    fn mount(home: &Path) -> Self {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"),
            |target| Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(target),
        );
        let tree = target.join("machines/root");
        assert!(tree.exists(), "{} is not there; make test-machines makes it", tree.display());
        let [upper, work, root] = ["upper", "work", "root"].map(|name| home.join(name));
        for dir in [&upper, &work, &root] {
            fs::create_dir_all(dir).unwrap();
        }
        let layers = format!("lowerdir={},upperdir={},workdir={}", tree.display(), upper.display(), work.display());
        let output = Command::new("mount").args(["-t", "overlay", "muster-test", "-o", &layers]).arg(&root).output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mount {layers}: {said}this test must run as root, with the right to mount");
        Self { root }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing to be done about a failure here; tests/check-clean.sh would find what is left.
        let _ = Command::new("umount").arg("--lazy").arg(&self.root).status();
    }
}
