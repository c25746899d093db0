//! Temperatures, voltages, currents, fans, power, and the alarms that the chips raise themselves.
//!
//! Comes in: `/sys/class/hwmon` and `/sys/class/thermal` (the kernel's Documentation/hwmon/sysfs-interface.rst). Goes out: `node_hwmon_*` with the
//! labels `chip` and `sensor`, named by the node exporter's rules, and `node_thermal_zone_*`. What must hold: a chip's
//! label is the same after a reboot, and no two chips have the same.

use super::Roots;
use super::files::{attribute, entries, number, numbered};
use super::sink::Sink;
use std::collections::BTreeSet;
use std::path::Path;

/// A kind of sensor, one of its files, the series, and what one of the file's units is.
const QUANTITIES: [(&str, &str, &str, f64); 26] = [
    ("temp", "input", "node_hwmon_temp_celsius", 1e-3),
    ("temp", "max", "node_hwmon_temp_max_celsius", 1e-3),
    ("temp", "crit", "node_hwmon_temp_crit_celsius", 1e-3),
    ("temp", "alarm", "node_hwmon_temp_alarm", 1.0),
    ("temp", "fault", "node_hwmon_temp_fault", 1.0),
    ("in", "input", "node_hwmon_in_volts", 1e-3),
    ("in", "min", "node_hwmon_in_min_volts", 1e-3),
    ("in", "max", "node_hwmon_in_max_volts", 1e-3),
    ("in", "lcrit", "node_hwmon_in_lcrit_volts", 1e-3),
    ("in", "crit", "node_hwmon_in_crit_volts", 1e-3),
    ("in", "alarm", "node_hwmon_in_alarm", 1.0),
    ("in", "fault", "node_hwmon_in_fault", 1.0),
    ("fan", "input", "node_hwmon_fan_rpm", 1.0),
    ("fan", "min", "node_hwmon_fan_min_rpm", 1.0),
    ("fan", "max", "node_hwmon_fan_max_rpm", 1.0),
    ("fan", "alarm", "node_hwmon_fan_alarm", 1.0),
    ("fan", "fault", "node_hwmon_fan_fault", 1.0),
    ("curr", "input", "node_hwmon_curr_amps", 1e-3),
    ("curr", "max", "node_hwmon_curr_max_amps", 1e-3),
    ("curr", "crit", "node_hwmon_curr_crit_amps", 1e-3),
    ("curr", "alarm", "node_hwmon_curr_alarm", 1.0),
    ("power", "input", "node_hwmon_power_watt", 1e-6),
    ("power", "average", "node_hwmon_power_average_watt", 1e-6),
    ("power", "cap", "node_hwmon_power_cap_watt", 1e-6),
    ("power", "crit", "node_hwmon_power_crit_watt", 1e-6),
    ("power", "alarm", "node_hwmon_power_alarm", 1.0),
];

pub(super) fn sample(roots: &Roots, sink: &mut Sink) {
    let chips = roots.sys("class/hwmon");
    let mut taken = BTreeSet::new();
    for (_, name) in numbered(&chips, "hwmon") {
        let folder = chips.join(&name);
        let model = attribute(&folder.join("name"));
        let by_device = chip_of(&folder.join("device"));
        let chip = by_device.or_else(|| Some(clean(model.as_deref()?))).filter(|chip| !chip.is_empty());
        let mut chip = chip.unwrap_or_else(|| name.clone());
        if !taken.insert(chip.clone()) {
            chip = format!("{chip}_{name}");
            taken.insert(chip.clone());
        }
        if let Some(model) = model {
            sink.gauge("node_hwmon_chip_names", &[("chip", &chip), ("chip_name", &model)], 1.0);
        }
        sensors(&folder, &chip, sink);
    }
    zones(roots, sink);
}

/// The chip's place among the devices, which does not change: `platform_coretemp_0`.
fn chip_of(device: &Path) -> Option<String> {
    let path = device.canonicalize().ok()?;
    let name = clean(path.file_name()?.to_str()?);
    let bus = clean(path.parent()?.file_name()?.to_str()?);
    Some(if bus.is_empty() { name } else { format!("{bus}_{name}") })
}

/// Without what a label does not have by the node exporter's rules.
fn clean(name: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c @ ('a'..='z' | '0'..='9' | ':' | '_') => c,
        _ => '_',
    };
    name.chars().map(plain).collect::<String>().trim_matches('_').to_owned()
}

fn sensors(folder: &Path, chip: &str, sink: &mut Sink) {
    for file in entries(folder) {
        // `temp1_crit`: the sensor and what of it.
        let Some((sensor, what)) = file.split_once('_') else { continue };
        let kind = sensor.trim_end_matches(|c: char| c.is_ascii_digit());
        if kind.len() == sensor.len() || !["temp", "in", "fan", "curr", "power"].contains(&kind) {
            continue;
        }
        let labels = [("chip", chip), ("sensor", sensor)];
        if what == "label" {
            if let Some(label) = attribute(&folder.join(&file)) {
                sink.gauge("node_hwmon_sensor_label", &[labels[0], labels[1], ("label", &label)], 1.0);
            }
        } else if let Some((_, _, name, unit)) =
            QUANTITIES.iter().find(|(of, quantity, ..)| *of == kind && *quantity == what)
        {
            let value = number::<i64>(&folder.join(&file)).map(|value| value as f64 * unit);
            // Nothing turns, draws power, or raises an alarm less than not at all.
            let signed = *unit < 1.0 && kind != "power";
            let sensible = |value: &f64| signed || *value >= 0.0;
            sink.gauge_of(name, &labels, value.filter(sensible));
        } else if let Some(limit) = what.strip_suffix("_alarm") {
            // Of one of several limits, as in `temp1_crit_alarm`.
            let raised = number::<u8>(&folder.join(&file)).map(f64::from);
            sink.gauge_of("piton_node_hwmon_limit_alarm", &[labels[0], labels[1], ("limit", limit)], raised);
        }
    }
}

fn zones(roots: &Roots, sink: &mut Sink) {
    let zones = roots.sys("class/thermal");
    for (zone, name) in numbered(&zones, "thermal_zone") {
        let folder = zones.join(&name);
        let (zone, kind) = (zone.to_string(), attribute(&folder.join("type")).unwrap_or_default());
        let labels = [("zone", zone.as_str()), ("type", &kind)];
        let celsius = |file: &str| number::<i64>(&folder.join(file)).map(|value| value as f64 * 1e-3);
        sink.gauge_of("node_thermal_zone_temp", &labels, celsius("temp"));
        let points = entries(&folder);
        let points = points.iter().filter_map(|file| file.strip_prefix("trip_point_")?.strip_suffix("_type"));
        for point in points {
            if attribute(&folder.join(format!("trip_point_{point}_type"))).as_deref() == Some("critical") {
                let limit = celsius(&format!("trip_point_{point}_temp"));
                sink.gauge_of("piton_node_thermal_zone_crit_celsius", &labels, limit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_as_the_node_exporter_makes_them() {
        assert_eq!(clean("0000:00:18.3"), "0000:00:18_3");
        assert_eq!(clean(" CoreTemp-isa\n"), "coretemp_isa");
    }
}
