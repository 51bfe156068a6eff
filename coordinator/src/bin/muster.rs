//! muster, the operator's command. All of it is in `muster_coordinator::cli`.

fn main() -> std::process::ExitCode {
    muster_coordinator::cli::run()
}
