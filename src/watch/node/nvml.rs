//! NVIDIA's management library, where there is one: loaded at run time, a dozen of its functions.
//!
//! Comes in: the library `libnvidia-ml`. Goes out: one [`Reading`] a device. What must hold: all unsafe code of it is here; what the library or a
//! device does not have is not known; calls may block for as long as a driver likes, so that only a thread that can wait calls them.
//!
//! Signatures and constants: NVIDIA's `nvml.h` (NVML API reference); they have not changed since the versions that the names have (`_v2`).

use libloading::Library;
use std::ffi::{OsStr, c_char, c_int, c_uint, c_void};

const SUCCESS: c_int = 0;
const GPU_IS_LOST: c_int = 15;
/// `nvmlTemperatureSensors_t`: the die.
const SENSOR_GPU: c_uint = 0;
/// `nvmlTemperatureThresholds_t`: above it the hardware slows down.
const THRESHOLD_SLOWDOWN: c_uint = 1;
/// `nvmlMemoryErrorType_t`.
const CORRECTED: c_uint = 0;
const UNCORRECTED: c_uint = 1;
/// `nvmlEccCounterType_t`: since the driver was loaded.
const VOLATILE: c_uint = 0;
/// Most devices that are asked.
const MOST_DEVICES: c_uint = 64;
/// As long as `nvml.h` allows a name to be (`NVML_DEVICE_NAME_V2_BUFFER_SIZE`, `NVML_DEVICE_UUID_V2_BUFFER_SIZE`).
const TEXT: usize = 96;

/// `nvmlDevice_t`.
type Device = *mut c_void;

/// What one device says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading {
    /// The driver has lost it: it fell off the bus.
    pub lost: bool,
    pub uuid: Option<String>,
    pub name: Option<String>,
    pub celsius: Option<f64>,
    pub slowdown_celsius: Option<f64>,
    pub watts: Option<f64>,
    pub memory_total: Option<f64>,
    pub memory_used: Option<f64>,
    /// Shares of the time in which it computed, and in which memory was accessed.
    pub busy: Option<f64>,
    pub memory_busy: Option<f64>,
    /// Since the driver was loaded.
    pub corrected: Option<f64>,
    pub uncorrected: Option<f64>,
    /// A mask: `nvmlClocksThrottleReason*`.
    pub throttled: Option<u64>,
    pub retirement_pending: Option<bool>,
    pub remap_pending: Option<bool>,
    pub remap_failed: Option<bool>,
}

/// The library, initialised.
pub(super) struct Nvml {
    library: Library,
}

/// Calls a function of the library that says how it went; `None` where there is no such function.
macro_rules! call {
    ($nvml:expr, $name:literal, ($($kind:ty),*), $($argument:expr),*) => {{
        type Function = unsafe extern "C" fn($($kind),*) -> c_int;
        // SAFETY: the type is that of the function of this name in `nvml.h`; the symbol is not used after the library is gone.
        let function = unsafe { $nvml.library.get::<Function>(concat!($name, "\0").as_bytes()) };
        // SAFETY: pointers are to variables of the caller's that outlive the call and are as large as `nvml.h` says; handles are the library's own.
        function.ok().map(|function| unsafe { function($($argument),*) })
    }};
}

impl Nvml {
    /// Loads and initialises it; `None` where there is none, or no driver.
    pub(super) fn load(path: &OsStr) -> Option<Self> {
        // SAFETY: loading runs the library's initialisers. It is NVIDIA's own, which every user of such a device loads.
        let library = unsafe { Library::new(path) }.ok()?;
        let nvml = Self { library };
        (call!(nvml, "nvmlInit_v2", (),)? == SUCCESS).then_some(nvml)
    }

    /// What every device says.
    pub(super) fn read(&self) -> Option<Vec<Reading>> {
        let mut count: c_uint = 0;
        let code = call!(self, "nvmlDeviceGetCount_v2", (*mut c_uint), &raw mut count)?;
        (code == SUCCESS).then(|| (0..count.min(MOST_DEVICES)).map(|index| self.read_device(index)).collect())
    }

    fn read_device(&self, index: c_uint) -> Reading {
        let mut device: Device = std::ptr::null_mut();
        let code = call!(self, "nvmlDeviceGetHandleByIndex_v2", (c_uint, *mut Device), index, &raw mut device);
        if code != Some(SUCCESS) {
            return Reading { lost: code == Some(GPU_IS_LOST), ..Reading::default() };
        }
        let mut celsius: c_uint = 0;
        let code = call!(
            self,
            "nvmlDeviceGetTemperature",
            (Device, c_uint, *mut c_uint),
            device,
            SENSOR_GPU,
            &raw mut celsius
        );
        let [busy, memory_busy] = self.utilisation(device).map_or([None; 2], |shares| shares.map(Some));
        let [memory_total, memory_used] = self.memory(device).map_or([None; 2], |bytes| bytes.map(Some));
        let [remap_pending, remap_failed] = self.remapped(device).map_or([None; 2], |said| said.map(Some));
        Reading {
            lost: code == Some(GPU_IS_LOST),
            uuid: self.uuid(device),
            name: self.name(device),
            celsius: (code == Some(SUCCESS)).then_some(f64::from(celsius)),
            slowdown_celsius: self.slowdown(device),
            watts: self.power(device),
            memory_total,
            memory_used,
            busy,
            memory_busy,
            corrected: self.errors(device, CORRECTED),
            uncorrected: self.errors(device, UNCORRECTED),
            throttled: self.throttled(device),
            retirement_pending: self.retirement_pending(device),
            remap_pending,
            remap_failed,
        }
    }

    fn uuid(&self, device: Device) -> Option<String> {
        let mut text: [c_char; TEXT] = [0; TEXT];
        let code =
            call!(self, "nvmlDeviceGetUUID", (Device, *mut c_char, c_uint), device, text.as_mut_ptr(), TEXT as c_uint)?;
        (code == SUCCESS).then(|| string(&text))
    }

    fn name(&self, device: Device) -> Option<String> {
        let mut text: [c_char; TEXT] = [0; TEXT];
        let code =
            call!(self, "nvmlDeviceGetName", (Device, *mut c_char, c_uint), device, text.as_mut_ptr(), TEXT as c_uint)?;
        (code == SUCCESS).then(|| string(&text))
    }

    fn slowdown(&self, device: Device) -> Option<f64> {
        let mut celsius: c_uint = 0;
        let code = call!(
            self,
            "nvmlDeviceGetTemperatureThreshold",
            (Device, c_uint, *mut c_uint),
            device,
            THRESHOLD_SLOWDOWN,
            &raw mut celsius
        )?;
        (code == SUCCESS).then_some(f64::from(celsius))
    }

    fn power(&self, device: Device) -> Option<f64> {
        let mut milliwatts: c_uint = 0;
        let code = call!(self, "nvmlDeviceGetPowerUsage", (Device, *mut c_uint), device, &raw mut milliwatts)?;
        (code == SUCCESS).then(|| f64::from(milliwatts) * 1e-3)
    }

    /// `nvmlUtilization_t`: percent.
    fn utilisation(&self, device: Device) -> Option<[f64; 2]> {
        let mut percent: [c_uint; 2] = [0; 2];
        let code = call!(self, "nvmlDeviceGetUtilizationRates", (Device, *mut [c_uint; 2]), device, &raw mut percent)?;
        (code == SUCCESS).then(|| percent.map(|percent| f64::from(percent.min(100)) / 100.0))
    }

    /// `nvmlMemory_t`: total, free, used. Total and used, in bytes.
    fn memory(&self, device: Device) -> Option<[f64; 2]> {
        let mut bytes: [u64; 3] = [0; 3];
        let code = call!(self, "nvmlDeviceGetMemoryInfo", (Device, *mut [u64; 3]), device, &raw mut bytes)?;
        (code == SUCCESS).then_some([bytes[0] as f64, bytes[2] as f64])
    }

    fn errors(&self, device: Device, kind: c_uint) -> Option<f64> {
        let mut count: u64 = 0;
        let code = call!(
            self,
            "nvmlDeviceGetTotalEccErrors",
            (Device, c_uint, c_uint, *mut u64),
            device,
            kind,
            VOLATILE,
            &raw mut count
        )?;
        (code == SUCCESS).then_some(count as f64)
    }

    fn throttled(&self, device: Device) -> Option<u64> {
        let mut reasons: u64 = 0;
        let code =
            call!(self, "nvmlDeviceGetCurrentClocksThrottleReasons", (Device, *mut u64), device, &raw mut reasons)?;
        (code == SUCCESS).then_some(reasons)
    }

    /// `nvmlEnableState_t`.
    fn retirement_pending(&self, device: Device) -> Option<bool> {
        let mut pending: c_uint = 0;
        let code =
            call!(self, "nvmlDeviceGetRetiredPagesPendingStatus", (Device, *mut c_uint), device, &raw mut pending)?;
        (code == SUCCESS).then_some(pending != 0)
    }

    /// Whether rows of the memory wait to be remapped, and whether that has failed.
    fn remapped(&self, device: Device) -> Option<[bool; 2]> {
        let (mut corrected, mut uncorrected, mut pending, mut failed): (c_uint, c_uint, c_uint, c_uint) = (0, 0, 0, 0);
        let code = call!(
            self,
            "nvmlDeviceGetRemappedRows",
            (Device, *mut c_uint, *mut c_uint, *mut c_uint, *mut c_uint),
            device,
            &raw mut corrected,
            &raw mut uncorrected,
            &raw mut pending,
            &raw mut failed
        )?;
        (code == SUCCESS).then_some([pending != 0, failed != 0])
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        let _ = call!(self, "nvmlShutdown", (),);
    }
}

/// The text up to its end.
fn string(text: &[c_char]) -> String {
    let bytes: Vec<u8> = text.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
