//! One daemon of a world: a coordinator or an agent, as a process of its own that can be started, stopped, killed and
//! frozen.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{binaries, eventually, processes};

/// Most that a daemon may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(10);

/// A daemon and its files. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    /// What starts it instead of ourselves, with the words before its own; empty for nothing.
    through: Vec<String>,
    home: PathBuf,
    config: PathBuf,
    log: PathBuf,
    /// What its environment has besides ours.
    environment: Vec<(String, String)>,
    child: Option<Child>,
}

impl Daemon {
    /// One that does not run yet. Config and log are `home/NAME.toml` and `home/NAME.log`; `config` is what to write.
    pub fn new(program: &str, home: &Path, name: &str, config: &str) -> Self {
        let daemon = Self {
            program: binaries::path(program),
            through: Vec::new(),
            home: home.to_owned(),
            config: home.join(format!("{name}.toml")),
            log: home.join(format!("{name}.log")),
            environment: Vec::new(),
            child: None,
        };
        daemon.configure(config);
        daemon
    }

    /// Writes its config anew; a running one does not notice.
    pub fn configure(&self, config: &str) {
        fs::write(&self.config, config).unwrap();
    }

    /// From its next start on it is started by these words, which must exec it: `ip netns exec NAME`.
    pub fn start_through(&mut self, words: &[&str]) {
        self.through = words.iter().map(|word| (*word).to_owned()).collect();
    }

    /// From its next start on its environment has these too, and none that were given before.
    pub fn set_environment(&mut self, environment: &[(&str, &str)]) {
        self.environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    }

    /// Its config, as it is.
    pub fn config(&self) -> String {
        fs::read_to_string(&self.config).unwrap()
    }

    /// The path of that.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// Starts it. It may not be ready when this returns.
    ///
    /// # Panics
    /// When it runs already.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(!self.is_running(), "{} runs already", self.program.display());
        self.bury();
        let log = OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut words = self.through.iter().map(OsStr::new).chain([self.program.as_os_str()]);
        let mut command = Command::new(words.next().expect("there is the program at least"));
        command.args(words).arg("--config").arg(&self.config).current_dir(&self.home).stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(processes::spawn_owned(&mut command));
    }

    /// Asks it to end (SIGTERM), and waits.
    ///
    /// # Panics
    /// When it has not ended after ten seconds, with the end of its log.
    #[track_caller]
    pub fn stop(&mut self) {
        let pid = self.pid();
        processes::signal(pid, Signal::SIGTERM);
        let ended = || if processes::alive(pid) { Err(self.log_end()) } else { Ok(()) };
        eventually(STOP, &format!("{} ends after SIGTERM", self.program.display()), ended);
        self.bury();
    }

    /// Kills it (SIGKILL): it gets no chance to tidy up.
    #[track_caller]
    pub fn kill(&mut self) {
        processes::signal(self.pid(), Signal::SIGKILL);
        self.bury();
    }

    /// Kills it and starts it again.
    #[track_caller]
    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    /// From its next start on it is another file: an upgrade in place.
    pub fn replace_program(&mut self, program: &Path) {
        self.program = program.to_owned();
    }

    /// Stops its clock (SIGSTOP): it holds its connections and says nothing.
    #[track_caller]
    pub fn freeze(&self) {
        processes::signal(self.pid(), Signal::SIGSTOP);
    }

    /// Lets it go on (SIGCONT).
    #[track_caller]
    pub fn thaw(&self) {
        processes::signal(self.pid(), Signal::SIGCONT);
    }

    /// Its pid.
    ///
    /// # Panics
    /// When it was not started, or was stopped.
    #[track_caller]
    pub fn pid(&self) -> i32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} was not started", self.program.display())).id() as i32
    }

    /// Whether it was started and has not ended, by itself or otherwise.
    pub fn is_running(&self) -> bool {
        self.child.as_ref().is_some_and(|child| processes::alive(child.id() as i32))
    }

    /// Everything that it has logged, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines of that, under the name of the file.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(30)..].join("\n");
        format!("--- the end of {}\n{end}\n", self.log.display())
    }

    /// Waits until it has ended by itself, and returns its exit code; -1 for a signal.
    ///
    /// # Panics
    /// When it goes on for longer than `deadline`.
    #[track_caller]
    pub fn ends_by_itself(&mut self, deadline: Duration) -> i32 {
        let pid = self.pid();
        let ended = || if processes::alive(pid) { Err(self.log_end()) } else { Ok(()) };
        eventually(deadline, &format!("{} ends by itself", self.program.display()), ended);
        let status = self.child.as_mut().and_then(|child| child.wait().ok());
        self.bury();
        status.and_then(|status| status.code()).unwrap_or(-1)
    }

    fn bury(&mut self) {
        if let Some(mut child) = self.child.take() {
            processes::wait_owned(&mut child);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}
