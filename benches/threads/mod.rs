//! What benchmarks ask of the threads of their own process.

/// Whether a thread of this process has that name.
pub fn has_thread(name: &str) -> bool {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return false };
    tasks.flatten().any(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|own| own.trim() == name))
}
