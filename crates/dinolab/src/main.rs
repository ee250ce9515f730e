//! The program `dinolab`.

fn main() -> std::process::ExitCode {
    dinolab::run(std::env::args_os()).into()
}
