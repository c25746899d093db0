//! A picture to draw on: anti-aliased lines, discs and text, written as PNG.

use std::io::Write;

/// Red, green, blue, from 0 to 1, as sRGB stores them.
pub type Colour = [f64; 3];

/// Rows of pixels from the top.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Colour>,
}

/// Where the given point of a text is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The text goes to the right of it.
    Start,
    /// In its middle.
    Middle,
    /// The text ends at it.
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Height of a capital letter (pixels).
    pub size: f64,
    /// Of the strokes.
    pub colour: Colour,
    /// Of a rim around them, to stand out from any ground.
    pub rim: Option<Colour>,
    /// Where the point is.
    pub anchor: Anchor,
}

/// Letters as strokes of a pen: each word is one stroke through points of two digits, across (0–4) and down (capitals
/// from 0 to 7, small letters from 2, descenders to 9).
const LETTERS: &[(char, &str)] = &[
    ('A', "0702204247 0444"),
    ('B', "07003041423303 3344463707"),
    ('C', "4130100106173746"),
    ('D', "00072745422000"),
    ('E', "40000747 0333"),
    ('F', "400007 0333"),
    ('G', "41301001061737464424"),
    ('H', "0007 4047 0343"),
    ('I', "1030 2027 1737"),
    ('J', "4046371706"),
    ('K', "0007 4004 1347"),
    ('L', "000747"),
    ('M', "0700234047"),
    ('N', "07004740"),
    ('O', "103041463717060110"),
    ('P', "07003041433404"),
    ('Q', "103041463717060110 2547"),
    ('R', "07003041433404 2447"),
    ('S', "413010010213334446371706"),
    ('T', "0040 2027"),
    ('U', "000617374640"),
    ('V', "002740"),
    ('W', "0017233740"),
    ('X', "0047 4007"),
    ('Y', "002340 2327"),
    ('Z', "00400747"),
    ('a', "12324347 44140506173746"),
    ('b', "0007 0312324346371706"),
    ('c', "4332120306173746"),
    ('d', "4047 4332120306173746"),
    ('e', "05454332120306173746"),
    ('f', "40302127 1232"),
    ('g', "4332120306173746 4248391908"),
    ('h', "0007 0312324347"),
    ('i', "2227 2020"),
    ('j', "22281909 2020"),
    ('k', "0007 4205 1447"),
    ('l', "202637"),
    ('m', "0207 03122327 23324347"),
    ('n', "0207 0312324347"),
    ('o', "123243463717060312"),
    ('p', "0209 0312324346371706"),
    ('q', "4249 4332120306173746"),
    ('r', "0207 041232"),
    ('s', "4332120314344546371706"),
    ('t', "10162737 0232"),
    ('u', "0206173746 4247"),
    ('v', "022742"),
    ('w', "0217243742"),
    ('x', "0247 4207"),
    ('y', "0227 421909"),
    ('z', "02420747"),
    ('0', "103041463717060110"),
    ('1', "022027 0747"),
    ('2', "01103041430747"),
    ('3', "01103041423313 334446371706"),
    ('4', "37300545"),
    ('5', "400003334446371706"),
    ('6', "4130100106173746443303"),
    ('7', "004017"),
    ('8', "13020110304142331304061737464433"),
    ('9', "0617374641301001031444"),
    ('.', "1717"),
    (',', "1708"),
    (':', "1313 1717"),
    ('-', "1434"),
    ('/', "0740"),
    ('(', "30111637"),
    (')', "10313617"),
    ('+', "2226 0444"),
    ('×', "0347 4307"),
    ('<', "420446"),
    ('>', "024406"),
    ('°', "10203122120110"),
];

type Segment = [f64; 4];

impl Canvas {
    /// All of one colour.
    pub fn new(width: usize, height: usize, ground: Colour) -> Self {
        Self { width, height, pixels: vec![ground; width * height] }
    }

    /// The rows, to be painted in parallel.
    pub fn pixels_mut(&mut self) -> (usize, &mut [Colour]) {
        (self.width, &mut self.pixels)
    }

    /// Lays a colour over a pixel.
    pub fn blend(&mut self, x: usize, y: usize, colour: Colour, cover: f64) {
        if x < self.width && y < self.height && cover > 0.0 {
            let pixel = &mut self.pixels[y * self.width + x];
            *pixel = mix(*pixel, colour, cover.min(1.0));
        }
    }

    /// A rectangle of whole pixels.
    pub fn fill(&mut self, [left, top]: [usize; 2], [width, height]: [usize; 2], colour: Colour) {
        for y in top..top + height {
            for x in left..left + width {
                self.blend(x, y, colour, 1.0);
            }
        }
    }

    /// Lines of a round pen, painted as one shape.
    fn strokes(&mut self, segments: &[Segment], radius: f64, colour: Colour) {
        let edge = radius + 1.0;
        let bound = |pick: fn(&Segment) -> [f64; 2], start: f64, better: fn(f64, f64) -> f64| {
            segments.iter().flat_map(pick).fold(start, better)
        };
        let across: fn(&Segment) -> [f64; 2] = |s| [s[0], s[2]];
        let down: fn(&Segment) -> [f64; 2] = |s| [s[1], s[3]];
        let left = (bound(across, f64::MAX, f64::min) - edge).max(0.0) as usize;
        let top = (bound(down, f64::MAX, f64::min) - edge).max(0.0) as usize;
        let right = (bound(across, 0.0, f64::max) + edge).min(self.width as f64) as usize;
        let bottom = (bound(down, 0.0, f64::max) + edge).min(self.height as f64) as usize;
        for y in top..bottom {
            for x in left..right {
                let point = [x as f64 + 0.5, y as f64 + 0.5];
                let distance = segments.iter().map(|segment| distance(point, segment)).fold(f64::MAX, f64::min);
                self.blend(x, y, colour, radius - distance + 0.5);
            }
        }
    }

    /// A straight line.
    pub fn line(&mut self, from: [f64; 2], to: [f64; 2], width: f64, colour: Colour) {
        self.strokes(&[[from[0], from[1], to[0], to[1]]], 0.5 * width, colour);
    }

    /// A disc.
    pub fn disc(&mut self, [x, y]: [f64; 2], radius: f64, colour: Colour) {
        self.strokes(&[[x, y, x, y]], radius, colour);
    }

    /// A line of text whose capitals stand on `y`. Letters that the pen does not know are left out.
    pub fn text(&mut self, [x, y]: [f64; 2], text: &str, style: Style) {
        let unit = style.size / 7.0;
        let mut segments = Vec::new();
        let mut pen = 0.0;
        for letter in text.chars() {
            let Some((glyph, width)) = glyph(letter) else {
                pen += 2.6;
                continue;
            };
            segments.extend(glyph.into_iter().map(|[a, b, c, d]| [a + pen, b, c + pen, d]));
            pen += width + 2.0;
        }
        let length = (pen - 2.0).max(0.0);
        let start = x - unit
            * length
            * match style.anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => 0.5,
                Anchor::End => 1.0,
            };
        let place = |across: f64, down: f64| [start + unit * across, y + unit * (down - 7.0)];
        let placed: Vec<Segment> = segments
            .into_iter()
            .map(|[a, b, c, d]| {
                let ([a, b], [c, d]) = (place(a, b), place(c, d));
                [a, b, c, d]
            })
            .collect();
        if placed.is_empty() {
            return;
        }
        let radius = 0.07 * style.size + 0.2;
        if let Some(rim) = style.rim {
            self.strokes(&placed, radius + 0.11 * style.size + 0.5, rim);
        }
        self.strokes(&placed, radius, style.colour);
    }

    /// Writes the picture as PNG.
    ///
    /// # Errors
    /// What the file or the encoder says.
    pub fn write_png(&self, to: impl Write) -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(to, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let bytes: Vec<u8> =
            self.pixels.iter().flatten().map(|part| (part.clamp(0.0, 1.0) * 255.0).round() as u8).collect();
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&bytes)?;
        writer.finish()
    }
}

/// A share of the way from one colour to another.
pub fn mix(from: Colour, to: Colour, share: f64) -> Colour {
    std::array::from_fn(|part| from[part] + share * (to[part] - from[part]))
}

/// The colour at `share` of the way along evenly spaced ones.
pub fn along(colours: &[Colour], share: f64) -> Colour {
    let place = share.clamp(0.0, 1.0) * (colours.len() - 1) as f64;
    let index = (place as usize).min(colours.len() - 2);
    mix(colours[index], colours[index + 1], place - index as f64)
}

/// The strokes of a letter, moved to its left edge, and its width.
fn glyph(letter: char) -> Option<(Vec<Segment>, f64)> {
    let (_, strokes) = LETTERS.iter().find(|(known, _)| *known == letter)?;
    let mut segments: Vec<Segment> = Vec::new();
    for stroke in strokes.split(' ') {
        let digits: Vec<f64> = stroke.bytes().map(|digit| f64::from(digit.wrapping_sub(b'0'))).collect();
        let points: Vec<&[f64]> = digits.chunks_exact(2).collect();
        segments.extend(points.windows(2).map(|pair| [pair[0][0], pair[0][1], pair[1][0], pair[1][1]]));
    }
    let left = segments.iter().flat_map(|s| [s[0], s[2]]).fold(f64::MAX, f64::min);
    let right = segments.iter().flat_map(|s| [s[0], s[2]]).fold(0.0, f64::max);
    segments.iter_mut().for_each(|s| {
        s[0] -= left;
        s[2] -= left;
    });
    Some((segments, right - left))
}

fn distance([x, y]: [f64; 2], &[ax, ay, bx, by]: &Segment) -> f64 {
    let (dx, dy) = (bx - ax, by - ay);
    let length = dx * dx + dy * dy;
    let share = if length > 0.0 { (((x - ax) * dx + (y - ay) * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    (x - ax - share * dx).hypot(y - ay - share * dy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_is_well_formed() {
        for (letter, strokes) in LETTERS {
            for stroke in strokes.split(' ') {
                assert!(stroke.len() >= 4 && stroke.len().is_multiple_of(2), "{letter}: {stroke}");
                assert!(stroke.bytes().step_by(2).all(|x| (b'0'..=b'4').contains(&x)), "{letter}: {stroke}");
                assert!(stroke.bytes().all(|digit| digit.is_ascii_digit()), "{letter}: {stroke}");
            }
            assert_eq!(LETTERS.iter().filter(|other| other.0 == *letter).count(), 1, "{letter}");
        }
    }

    #[test]
    fn a_picture_can_be_read_back() {
        let mut canvas = Canvas::new(8, 4, [1.0, 0.0, 0.0]);
        canvas.fill([2, 1], [3, 2], [0.0, 0.0, 1.0]);
        let mut file = Vec::new();
        canvas.write_png(&mut file).expect("memory takes it");
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("a PNG");
        let mut pixels = vec![0; 8 * 4 * 3];
        reader.next_frame(&mut pixels).expect("a frame");
        assert_eq!(pixels[..3], [255, 0, 0]);
        assert_eq!(pixels[(8 + 2) * 3..(8 + 2) * 3 + 3], [0, 0, 255]);
    }
}
