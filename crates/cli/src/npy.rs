//! The head of a NumPy file (`.npy`), behind which the elements follow as they lie in memory.
//!
//! Comes in: what an element consists of, and a shape. Goes out: magic, version and header as `numpy.lib.format` has them.
//! What must hold: the elements start at a multiple of 64 bytes; the oldest version that can say it is used (1 for
//! short headers, 2 for long ones, 3 for names that are not ASCII).

use piton::OwnedKind;

/// The bytes in front of the elements of an array of `shape`, slowest dimension first.
#[must_use]
pub fn head(kind: &OwnedKind, shape: &[u64]) -> Vec<u8> {
    let (descr, inner) = kind.numpy();
    let dimensions: Vec<String> = shape.iter().chain(&inner).map(u64::to_string).collect();
    let shape = match dimensions.as_slice() {
        [only] => format!("({only},)"),
        dimensions => format!("({})", dimensions.join(", ")),
    };
    let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}");
    // Padded with spaces, and ended by a line end.
    let padded = |length_bytes: usize| (8 + length_bytes + header.len() + 1).next_multiple_of(64);
    let short = padded(2) - 10;
    let mut head = b"\x93NUMPY".to_vec();
    let total = match u16::try_from(short) {
        Ok(length) if header.is_ascii() => {
            head.extend([1, 0]);
            head.extend(length.to_le_bytes());
            padded(2)
        }
        _ => {
            head.extend([if header.is_ascii() { 2 } else { 3 }, 0]);
            // The text of a kind is bounded by 16 KiB, which its description exceeds by little.
            head.extend(u32::try_from(padded(4) - 12).unwrap_or(u32::MAX).to_le_bytes());
            padded(4)
        }
    };
    head.extend(header.as_bytes());
    head.resize(total - 1, b' ');
    head.push(b'\n');
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> OwnedKind {
        text.parse().unwrap()
    }

    #[test]
    fn it_is_what_the_format_says() {
        // 118 bytes of header, so that the elements start at byte 128.
        let mut expected =
            b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }".to_vec();
        expected.resize(127, b' ');
        expected.push(b'\n');
        assert_eq!(head(&kind("f64"), &[3, 4]), expected);
        assert!(
            String::from_utf8_lossy(&head(&kind("[f32; 2]"), &[7]))
                .contains("'<f4', 'fortran_order': False, 'shape': (7, 2)")
        );
        assert!(String::from_utf8_lossy(&head(&kind("u8"), &[7])).contains("'shape': (7,)"));
    }

    #[test]
    fn longer_headers_and_other_letters_take_later_versions() {
        let fields: Vec<String> = (0..900).map(|number| format!("f{number}: u8 @{number}")).collect();
        let wide = format!("{{{}; 900}}", fields.join(", "));
        for (text, version) in [("f64", 1), (wide.as_str(), 1), ("{größe: f64 @0; 8}", 3)] {
            let head = head(&kind(text), &[2]);
            assert_eq!((head[6], head.len() % 64, head.last()), (version, 0, Some(&b'\n')), "{text}");
        }
        let shape = vec![1; 30_000];
        let long = head(&kind("u8"), &shape);
        assert_eq!((long[6], long.len() % 64), (2, 0));
        assert_eq!(u32::from_le_bytes([long[8], long[9], long[10], long[11]]) as usize, long.len() - 12);
    }
}
