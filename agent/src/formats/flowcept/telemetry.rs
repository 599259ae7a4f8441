//! Flowcept's `telemetry_at_start` and `telemetry_at_end` of a task: its own costs, counted from 0, and the node as a whole in the
//! first sample after each moment. It does not know who sampled.
//!
//! Keys and units are psutil's, as Flowcept 1.0.3 sends them; `disk.io` and `network.netio` are what its web page asks for, the
//! same as `io_sum` and `netio_sum`. `percent_all` at the end is that of the task's time, at its start that of the time before.
//! What is not known (frequency, open files, threads of a process that has ended) is not there.

use flowcept_provenance::activity::Activity;
use flowcept_provenance::lineage::Provenance;
use flowcept_provenance::node::{CpuTimes, Disk, Memory, Sample};
use flowcept_provenance::quantity::BootNs;
use serde_json::{Map, Value, json};

use super::sent::size;
use super::{Files, Fit};
use crate::workflow::Workflow;

/// CPU times are told in ticks of which a second has so many.
const TICKS: f64 = 100.0;
/// One list by device in a bounded message.
const LIST_BYTES: usize = 3_000;

const CPU: [&str; 10] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"];
const DISK: [&str; 9] = [
    "read_count",
    "write_count",
    "read_bytes",
    "write_bytes",
    "read_time",
    "write_time",
    "read_merged_count",
    "write_merged_count",
    "busy_time",
];
const NETWORK: [&str; 8] =
    ["bytes_sent", "bytes_recv", "packets_sent", "packets_recv", "errin", "errout", "dropin", "dropout"];

/// Both blocks of a task; null while it runs, and where nothing was asked for.
pub(super) fn blocks(workflow: &Workflow, told: &Provenance, task: &Activity, fit: &mut Fit) -> [Value; 2] {
    let Some(ended) = task.ended else { return [Value::Null, Value::Null] };
    let after = |at: BootNs| {
        let index = told.samples.partition_point(|sample| sample.at < at);
        index.min(told.samples.len().saturating_sub(1))
    };
    let (first, last) = (after(task.started), after(ended));
    let mut node = |index: usize, since: Option<usize>| match told.samples.get(index) {
        Some(sample) => block(sample, since.and_then(|index| told.samples.get(index)), fit),
        None => json!({}),
    };
    let before_first = first.checked_sub(1);
    let mut blocks = [node(first, before_first), node(last, if last > first { Some(first) } else { before_first })];
    if workflow.declared.process_telemetry {
        let [start, end] = &mut blocks;
        (start["process"], end["process"]) =
            (process(workflow, task, None, fit), process(workflow, task, Some(ended), fit));
    }
    blocks
}

/// What the task cost up to its end, or nothing yet.
fn process(workflow: &Workflow, task: &Activity, ended: Option<BootNs>, fit: &mut Fit) -> Value {
    let words: Vec<Value> = task.arguments.iter().map(|word| fit.text(word).into()).collect();
    let cost = ended.map(|_| task.cost).unwrap_or_default();
    let (read, written) = if ended.is_some() { (task.read, task.written) } else { Default::default() };
    let seconds = |ns: u64| ns as f64 / 1e9;
    let lived = ended.map_or(0, |ended| ended.0.saturating_sub(task.started.0));
    json!({
        "pid": task.pid.0, "executable": fit.text(&task.executable), "cmd_line": fit.list("cmd_line", LIST_BYTES, words.into_iter()),
        "memory": {"rss": cost.peak_memory.0}, "memory_percent": cost.peak_memory.0 as f64 * 100.0 / workflow.host.memory.max(1) as f64,
        "cpu_times": {"user": seconds(cost.user.0), "system": seconds(cost.system.0)},
        "cpu_percent": percent(cost.cpu.0, lived),
        "io_counters": {"read_bytes": cost.storage_read.0, "write_bytes": cost.storage_written.0, "read_chars": read.0,
            "write_chars": written.0},
    })
}

/// The node in a sample; its CPUs' load since another one, or since boot.
fn block(sample: &Sample, since: Option<&Sample>, fit: &mut Fit) -> Value {
    let mut cpu = Map::new();
    if let Some(times) = &sample.cpu {
        let before = since.and_then(|since| since.cpu.as_ref());
        cpu.insert("times_avg".into(), cpu_times(times));
        cpu.insert("percent_all".into(), load(times, before).into());
    }
    if !sample.each_cpu.is_empty() {
        let before = |index: usize| since.and_then(|since| since.each_cpu.get(index));
        let loads: Vec<f64> = sample.each_cpu.iter().enumerate().map(|(i, times)| load(times, before(i))).collect();
        cpu.insert("times_per_cpu".into(), fit.whole("times_per_cpu", sample.each_cpu.iter().map(cpu_times).collect()));
        cpu.insert("percent_per_cpu".into(), fit.whole("percent_per_cpu", loads.into()));
    }
    json!({
        "cpu": cpu,
        "memory": sample.memory.as_ref().map(memory),
        "disk": sample.disk.as_ref().map(|disk| self::disk(disk, fit)),
        "network": sample.network.as_ref().map(|interfaces| {
            let sum = named(&NETWORK, &sum(interfaces.iter().map(|(_, counters)| counters)));
            // As Flowcept has them: those that both sent and received.
            let each = interfaces.iter().filter(|(_, counters)| counters[0] > 0 && counters[1] > 0);
            let each: Map<_, _> = each.map(|(name, counters)| (name.to_string(), named(&NETWORK, counters))).collect();
            json!({"netio_sum": sum, "netio": sum, "netio_per_interface": fit.whole("netio_per_interface", each.into())})
        }),
    })
}

fn memory(memory: &Memory) -> Value {
    let used = memory.total.0.saturating_sub(memory.available.0);
    let swap_used = memory.swap_total.0.saturating_sub(memory.swap_free.0);
    json!({
        "virtual": {"total": memory.total.0, "available": memory.available.0, "percent": percent(used, memory.total.0),
            "used": used, "free": memory.free.0, "active": memory.active.0, "inactive": memory.inactive.0,
            "buffers": memory.buffers.0, "cached": memory.cached.0, "shared": memory.shared.0, "slab": memory.slab.0},
        "swap": {"total": memory.swap_total.0, "used": swap_used, "free": memory.swap_free.0,
            "percent": percent(swap_used, memory.swap_total.0), "sin": memory.swapped_in.0, "sout": memory.swapped_out.0},
    })
}

fn disk(disk: &Disk, fit: &mut Fit) -> Value {
    let sum = named(&DISK, &sum(disk.devices.iter().filter(|d| d.is_whole).map(|d| &d.counters)));
    let each: Map<_, _> = disk.devices.iter().map(|d| (d.name.to_string(), named(&DISK, &d.counters))).collect();
    let mut block = json!({
        "disk_usage": {"total": disk.total.0, "used": disk.used.0, "free": disk.free.0,
            "percent": percent(disk.used.0, disk.used.0 + disk.free.0)},
        "io_sum": sum, "io": sum,
    });
    // As Flowcept has it: only where it says more.
    if each.len() > 1 {
        block["io_per_disk"] = fit.whole("io_per_disk", each.into());
    }
    block
}

impl Fit {
    /// All of a list or a map, or none of it.
    fn whole(&mut self, name: &str, value: Value) -> Value {
        if self.files == Files::All || size(&value) <= LIST_BYTES {
            return value;
        }
        let length = value.as_array().map(Vec::len).or_else(|| value.as_object().map(Map::len));
        self.cut.insert(name.to_string(), length.into());
        Value::Null
    }
}

fn cpu_times(times: &CpuTimes) -> Value {
    CPU.iter()
        .zip(times)
        .map(|(name, ticks)| (name.to_string(), json!(*ticks as f64 / TICKS)))
        .collect::<Map<_, _>>()
        .into()
}

fn named<const N: usize>(names: &[&str; N], counters: &[u64; N]) -> Value {
    names.iter().zip(counters).map(|(name, count)| (name.to_string(), json!(count))).collect::<Map<_, _>>().into()
}

fn sum<'a, const N: usize>(all: impl Iterator<Item = &'a [u64; N]>) -> [u64; N] {
    all.fold([0; N], |sum, counters| std::array::from_fn(|i| sum[i].saturating_add(counters[i])))
}

/// To a tenth, as psutil has it; of nothing it is 0.
fn percent(part: u64, whole: u64) -> f64 {
    let percent = if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    (percent * 10.0).round() / 10.0
}

/// How busy in percent. Guests are in user and nice.
fn load(times: &CpuTimes, before: Option<&CpuTimes>) -> f64 {
    let passed: CpuTimes = std::array::from_fn(|i| times[i].saturating_sub(before.map_or(0, |before| before[i])));
    let all: u64 = passed[..8].iter().sum();
    percent(all - passed[3] - passed[4], all)
}

#[cfg(test)]
mod tests {
    use super::super::{MESSAGE_BYTES, example, tasks};
    use super::*;
    use flowcept_provenance::node::Device;
    use flowcept_provenance::quantity::ByteCount;

    /// A node with so many CPUs, disks and interfaces, that has done as much as the time says.
    fn sample(at: u64, devices: usize) -> Sample {
        let name = |i: usize| format!("device{i}").into_boxed_str();
        Sample {
            at: BootNs(at),
            cpu: Some([at, 0, 0, at, 0, 0, 0, 0, 0, 0]),
            each_cpu: vec![[at; 10]; devices],
            memory: Some(Memory { total: ByteCount(4), available: ByteCount(1), ..Memory::default() }),
            disk: Some(Disk {
                devices: (0..devices)
                    .map(|i| Device { name: name(i), is_whole: i % 2 == 0, counters: [at; 9] })
                    .collect(),
                ..Disk::default()
            }),
            network: Some((0..devices).map(|i| (name(i), [at; 8])).collect()),
        }
    }

    #[test]
    fn a_task_is_told_the_first_sample_after_each_moment() {
        let (mut w, mut told) = example(1, 0);
        w.declared.process_telemetry = true;
        // `sort` runs from 1,000 to 2,000.
        told.samples = [500, 1_000, 1_500, 2_100, 3_000].map(|at| sample(at, 2)).into();
        told.samples[2].cpu = Some([2_000, 0, 0, 1_000, 0, 0, 0, 0, 0, 0]);
        told.samples[3].cpu = Some([1_750, 0, 0, 1_250, 0, 0, 0, 0, 0, 0]);
        let messages = tasks(&w, &told, Files::Bounded, &|_| 0);
        let [start, end] = ["telemetry_at_start", "telemetry_at_end"].map(|name| &messages[0][name]);
        assert_eq!(
            (&start["disk"]["io_sum"]["read_count"], &end["disk"]["io_sum"]["read_count"]),
            (&json!(1_000), &json!(2_100))
        );
        assert_eq!(
            (&start["network"]["netio_sum"]["bytes_sent"], &end["network"]["netio_sum"]["bytes_sent"]),
            (&json!(2_000), &json!(4_200))
        );
        assert_eq!((&start["cpu"]["percent_all"], &end["cpu"]["percent_all"]), (&json!(50.0), &json!(75.0)));
        assert_eq!(
            (&end["cpu"]["times_avg"]["user"], &end["memory"]["virtual"]["percent"]),
            (&json!(17.5), &json!(75.0))
        );
        assert_eq!(end["disk"]["io_per_disk"].as_object().map(Map::len), Some(2));
        assert_eq!((&start["process"]["pid"], &end["process"]["io_counters"]["read_chars"]), (&json!(100), &json!(1)));
        // `cat` runs on.
        assert_eq!((messages[1].get("telemetry_at_start"), messages[1].get("telemetry_at_end")), (None, None));
    }

    #[test]
    fn a_large_node_does_not_make_large_messages() {
        let (w, mut told) = example(400, 0);
        told.samples = vec![sample(900, 2_000), sample(1_900, 2_000)];
        let messages = tasks(&w, &told, Files::Bounded, &|_| 0);
        assert!(messages.iter().all(|m| m.to_string().len() <= MESSAGE_BYTES));
        let cut = &messages[0]["custom_metadata"]["cut"];
        for name in ["times_per_cpu", "percent_per_cpu", "io_per_disk", "netio_per_interface"] {
            assert_eq!(cut[name], 2_000, "{name}");
        }
        let all = tasks(&w, &told, Files::All, &|_| 0);
        assert_eq!(all[0]["telemetry_at_end"]["cpu"]["times_per_cpu"].as_array().map(Vec::len), Some(2_000));
    }
}
