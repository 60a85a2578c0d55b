//! Papers made to hurt whoever reads them: bombs, loops, nests and lies, each a small file with a name.
//!
//! It must never need more memory to make one than the file itself has, nor any of our own code.

use std::io::Write as _;
use std::sync::OnceLock;

use flate2::Compression;
use flate2::write::ZlibEncoder;

const MIB: usize = 1024 * 1024;
const KIDS: &str = "<</Type/Pages/Kids[3 0 R]/Count 1>>";

/// A paper, and what it is called in messages.
pub type Crafted = (&'static str, Vec<u8>);

/// `count` times the same piece, packed.
fn packed(piece: &[u8], count: usize) -> Vec<u8> {
    let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..count {
        packer.write_all(piece).unwrap();
    }
    packer.finish().unwrap()
}

/// A gigabyte of zeros, packed once: it takes seconds.
fn gigabyte() -> &'static [u8] {
    static GIGABYTE: OnceLock<Vec<u8>> = OnceLock::new();
    GIGABYTE.get_or_init(|| packed(&vec![0; MIB], 1024))
}

fn stream(entries: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("<<{entries}/Length {}>>stream\n", content.len());
    [head.as_bytes(), content, b"\nendstream"].concat()
}

fn flate(content: &[u8]) -> Vec<u8> {
    stream("/Filter/FlateDecode", content)
}

/// A file of these objects, numbered from 1, of which the first is the catalog.
fn file(objects: &[Vec<u8>]) -> Vec<u8> {
    file_with(objects, "")
}

fn file_with(objects: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let mut file = b"%PDF-1.7\n".to_vec();
    let mut table = format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for (index, object) in objects.iter().enumerate() {
        table += &format!("{:010} 00000 n \n", file.len());
        file.extend(format!("{} 0 obj\n", index + 1).bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    let start = file.len();
    let size = objects.len() + 1;
    file.extend(format!("{table}trailer\n<</Size {size}/Root 1 0 R{trailer}>>\nstartxref\n{start}\n%%EOF\n").bytes());
    file
}

/// A file with one page; `page` is written in it, `more` are the objects from 4 on.
fn page(page: &str, more: &[Vec<u8>]) -> Vec<u8> {
    let page = format!("<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]{page}>>");
    let start = ["<</Type/Catalog/Pages 2 0 R>>", KIDS, &page].map(|object| object.as_bytes().to_vec());
    file(&[&start, more].concat())
}

fn content(content: Vec<u8>) -> Vec<u8> {
    page("/Contents 4 0 R", &[content])
}

/// Pages whose content is too much.
fn contents() -> Vec<Crafted> {
    let double = stream("/Filter[/FlateDecode/FlateDecode]", &packed(gigabyte(), 1));
    let operators = b"0 0 m 9 9 l S q Q 1 0 0 1 0 0 cm ".repeat(MIB / 33);
    let many = format!("/Contents[{}]", "4 0 R ".repeat(200_000));
    let text = page(
        "/Contents 4 0 R/Resources<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>",
        &[flate(&packed(&b"BT /F 1 Tf (abcdefghijklmnopqrstuvwxyz) Tj ET ".repeat(20_000), 40))],
    );
    vec![
        ("a gigabyte of zeros", content(flate(gigabyte()))),
        ("a gigabyte packed twice", content(double)),
        ("300 MB of operators", content(flate(&packed(&operators, 300)))),
        ("200 MB of operators", content(flate(&packed(&operators, 200)))),
        ("200,000 references to one content", page(&many, &[flate(&packed(&[b' '; MIB], 50))])),
        ("millions of letters", text),
        ("nested saves", content(flate(&packed(b"q ", 5_000_000)))),
        (
            "a dash of a million",
            content(stream("", format!("[{}] 0 d 0 0 m 300 300 l S", "1 ".repeat(1_000_000)).as_bytes())),
        ),
    ]
}

fn object_stream(count: usize, entries: &[u8], first: usize) -> Vec<u8> {
    stream(&format!("/Type/ObjStm/N {count}/First {first}/Filter/FlateDecode"), entries)
}

/// A file with a cross-reference stream, in which all objects from 10 on are members of object stream 5 and following.
fn with_object_streams(streams: &[Vec<u8>], entries: &str) -> Vec<u8> {
    let mut file = b"%PDF-1.7\n".to_vec();
    let mut rows = vec![[0_u8; 8]];
    let fixed: [Vec<u8>; 4] = [
        b"<</Type/Catalog/Pages 2 0 R>>".to_vec(),
        KIDS.as_bytes().to_vec(),
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]>>".to_vec(),
        b"null".to_vec(),
    ];
    for (index, object) in fixed.iter().chain(streams).enumerate() {
        let offset = u32::try_from(file.len()).unwrap().to_be_bytes();
        rows.push([1, offset[0], offset[1], offset[2], offset[3], 0, 0, 0]);
        file.extend(format!("{} 0 obj\n", index + 1).bytes());
        file.extend(object);
        file.extend(b"\nendobj\n");
    }
    for stream in 0..streams.len() {
        let number = u32::try_from(stream + 5).unwrap().to_be_bytes();
        rows.push([2, number[0], number[1], number[2], number[3], 0, 0, 0]);
    }
    let (start, size) = (file.len(), rows.len() + 1);
    let table = packed(&rows.concat(), 1);
    let head =
        format!("/Type/XRef/Size {size}/W[1 4 3]/Root 1 0 R/Filter/FlateDecode/Index[0 {}]{entries}", rows.len());
    file.extend(format!("{} 0 obj\n", size - 1).bytes());
    file.extend(stream(&head, &table));
    file.extend(format!("\nendobj\nstartxref\n{start}\n%%EOF\n").bytes());
    file
}

/// Objects that are too many or too large.
fn objects() -> Vec<Crafted> {
    let zeros = vec![b' '; MIB];
    let sixty = object_stream(1, &packed(&zeros, 60), 10);
    let numbers: String = (0..2_000_000).map(|member| format!("{} {} ", member + 100, member * 2)).collect();
    let members = packed(&[numbers.as_bytes(), &b"1 ".repeat(2_000_000)].concat(), 1);
    let array = [b"[".to_vec(), b"1 ".repeat(10_000_000), b"]".to_vec()].concat();
    let rows: Vec<Vec<u8>> = std::iter::repeat_n(b"<</A 1>>".to_vec(), 500_000).collect();
    vec![
        ("an object stream of a gigabyte", with_object_streams(&[object_stream(1, gigabyte(), 10)], "")),
        ("forty object streams of 60 MB", with_object_streams(&vec![sixty; 40], "")),
        (
            "two million objects in a stream",
            with_object_streams(&[object_stream(2_000_000, &members, numbers.len())], ""),
        ),
        ("an array of ten million", page("", &[array])),
        ("half a million objects", page("", &rows)),
    ]
}

/// Tables that lie.
fn tables() -> Vec<Crafted> {
    let plain = page("", &[]);
    let end = plain.windows(4).position(|window| window == b"xref").unwrap();
    let tail = |tail: String| [&plain[..end], tail.as_bytes()].concat();
    let trailer = |entries: &str| format!("trailer\n<</Size 4/Root 1 0 R{entries}>>\nstartxref\n{end}\n%%EOF\n");
    vec![
        ("a size of two thousand million", with_object_streams(&[], "/Size 2147483648")),
        ("an index without end", with_object_streams(&[], "/Index[0 2147483647]")),
        ("columns without width", with_object_streams(&[], "/W[0 0 0]")),
        ("columns too wide", with_object_streams(&[], "/W[1 2147483647 2147483647]")),
        ("a predictor that grows", with_object_streams(&[], "/DecodeParms<</Predictor 12/Columns 2147483647>>")),
        ("a table of four thousand million", tail(format!("xref\n0 4294967295\n{}", trailer("")))),
        (
            "a table before itself",
            tail(format!("xref\n0 1\n0000000000 65535 f \n{}", trailer(&format!("/Prev {end}")))),
        ),
        ("no table", plain[..end].to_vec()),
        (
            "encryption without sense",
            tail(format!("xref\n0 1\n0000000000 65535 f \n{}", trailer("/Encrypt<</Filter/No>>"))),
        ),
    ]
}

fn tree(nodes: &[String]) -> Vec<u8> {
    let start = vec![b"<</Type/Catalog/Pages 2 0 R>>".to_vec()];
    file(&[start, nodes.iter().map(|node| node.clone().into_bytes()).collect()].concat())
}

/// Page trees, and other things that refer to themselves.
fn loops() -> Vec<Crafted> {
    let node = |kids: &str| format!("<</Type/Pages/Count 1/Kids[{kids}]>>");
    let fans: Vec<String> = (0..10).map(|level| node(&format!("{} 0 R ", level + 3).repeat(12))).collect();
    let leaf = "<</Type/Page/MediaBox[0 0 300 300]>>".to_owned();
    let deep: Vec<String> = (0..100_000).map(|level| node(&format!("{} 0 R", level + 3))).collect();
    let laughs: Vec<Vec<u8>> = (0..20)
        .map(|level| {
            let next = level + 5;
            let form = format!("/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X {next} 0 R>>>>");
            stream(&form, b"/X Do /X Do /X Do /X Do /X Do /X Do /X Do /X Do")
        })
        .collect();
    let own = "/Contents 4 0 R/Resources<</XObject<</X 4 0 R>>>>";
    let form = "/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 4 0 R>>>>";
    let letter = "/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>";
    let font = "<</Type/Font/Subtype/Type3/FontBBox[0 0 9 9]/FontMatrix[1 0 0 1 0 0]/FirstChar 97/LastChar 97/Widths[9]\
         /Encoding<</Differences[97/a]>>/CharProcs<</a 4 0 R>>/Resources<</Font<</F 5 0 R>>>>>>";
    vec![
        ("a tree that is its own branch", tree(&[node("2 0 R")])),
        ("a tree of 12^10 branches", tree(&[fans, vec![leaf.clone()]].concat())),
        ("a tree 100,000 deep", tree(&[deep, vec![leaf]].concat())),
        ("a form that draws itself", page(own, &[stream(form, b"/X Do /X Do")])),
        ("a thousand million laughs", page("/Contents 4 0 R/Resources<</XObject<</X 4 0 R>>>>", &laughs)),
        ("a letter drawn with itself", page(letter, &[stream("", b"9 0 d0 BT /F 9 Tf (aaa) Tj ET"), font.into()])),
        ("a length that is itself", page("/Contents 4 0 R", &[b"<</Length 4 0 R>>stream\nq Q\nendstream".to_vec()])),
        ("references in a ring", page("/Rotate 4 0 R/MediaBox 4 0 R", &[b"5 0 R".to_vec(), b"4 0 R".to_vec()])),
    ]
}

/// Nests and numbers out of bounds.
fn extremes() -> Vec<Crafted> {
    let nested =
        |open: &str, close: &str, depth: usize| page("", &[(open.repeat(depth) + &close.repeat(depth)).into_bytes()]);
    let picture = |side: usize, filter: &str, data: &[u8]| {
        let image = format!(
            "/Type/XObject/Subtype/Image/Width {side}/Height {side}/BitsPerComponent 8/ColorSpace/DeviceRGB{filter}"
        );
        let draw = stream("", b"300 0 0 300 0 0 cm /X Do");
        page("/Contents 4 0 R/Resources<</XObject<</X 5 0 R>>>>", &[draw, stream(&image, data)])
    };
    let nan = content(stream("", b"1e38 0 0 1e38 1e38 1e38 cm 1e38 w 0 0 m 1e38 1e38 l S 0 0 1e38 -1e38 re f"));
    vec![
        ("a million nested arrays", nested("[", "]", 1_000_000)),
        ("200,000 nested dictionaries", nested("<</A", ">>", 200_000)),
        ("a million nested brackets in a string", nested("(", ")", 1_000_000)),
        ("nested arrays in a page", content(stream("", "[".repeat(1_000_000).as_bytes()))),
        ("a page as large as a country", page("/MediaBox[0 0 1e9 1e9]", &[])),
        ("units without bounds", page("/UserUnit 1e9", &[])),
        ("a turn by 45", page("/Rotate 45", &[])),
        ("a negative length", page("/Contents 4 0 R", &[b"<</Length -1>>stream\nq Q\nendstream".to_vec()])),
        ("a length without end", page("/Contents 4 0 R", &[b"<</Length 99999999999>>stream\nq Q\nendstream".to_vec()])),
        ("a picture of 60,000 x 60,000", picture(60_000, "/Filter/FlateDecode", &packed(&[0; 1000], 100))),
        ("a packed picture of a gigabyte", picture(18_000, "/Filter/FlateDecode", gigabyte())),
        ("coordinates at the edge of numbers", nan),
    ]
}

/// Fields that share what they are made of.
fn forms() -> Vec<Crafted> {
    const FIELDS: usize = 20_000;
    let references = |from: usize| (from..from + FIELDS).map(|number| format!("{number} 0 R ")).collect::<String>();
    let list = format!("[{}]", references(7)).into_bytes();
    let start = ["<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields 4 0 R>>>>", KIDS, "<</Type/Page/Parent 2 0 R>>"];
    let mut objects = start.map(|object| object.as_bytes().to_vec()).to_vec();
    objects.extend([list.clone(), [&b"("[..], &vec![b'x'; 4 * MIB], b")"].concat(), list]);
    let field =
        |is_signed: bool| if is_signed { "<</FT/Sig/T 5 0 R/V<<>>/Kids 6 0 R>>" } else { "<</T 5 0 R/Kids 6 0 R>>" };
    objects.extend((0..FIELDS).map(|index| field(index > FIELDS / 2).into()));
    vec![("20,000 fields with one name and one list of kids", file(&objects))]
}

/// A paper that may be read, and takes some hundred megabytes of memory when it is; all of it belongs to its page.
#[must_use]
pub fn heavy() -> Vec<u8> {
    let array = [b"[".to_vec(), b"1 ".repeat(1_500_000), b"]".to_vec()].concat();
    page("/Own 4 0 R", &[array])
}

/// All of them, made as they are asked for.
pub fn all() -> impl Iterator<Item = Crafted> {
    let rooms: [fn() -> Vec<Crafted>; 6] = [contents, objects, tables, loops, extremes, forms];
    rooms.into_iter().flat_map(|room| room())
}
