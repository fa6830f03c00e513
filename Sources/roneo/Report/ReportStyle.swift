/// How the report looks: light and dark as the reader's system is, wide and narrow, and printed.
enum ReportStyle {
    static let css = """
        :root{--page:#f6f7f9;--card:#fff;--ink:#1c2330;--quiet:#5d6778;--line:#dfe3ea;--bar:#4c78b8;\
        --good:#2e8b57;--idle:#b9cbbf;--warn:#b7791f;--warn-soft:#fdf3dc;--bad:#c0392b;--bad-soft:#fdeae7;\
        --ok-soft:#e6f4ec;--none:#9aa3b2}
        @media (prefers-color-scheme:dark){:root{--page:#12161d;--card:#1b212b;--ink:#e4e8ef;--quiet:#98a3b5;\
        --line:#2d3542;--bar:#6d9bdc;--good:#4cba7f;--idle:#3c5546;--warn:#e0ab4a;--warn-soft:#3a2f17;\
        --bad:#f07a6b;--bad-soft:#41211e;--ok-soft:#173325;--none:#5b6576}}
        *{box-sizing:border-box;margin:0}
        body{background:var(--page);color:var(--ink);font:15px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,\
        "Noto Sans",sans-serif;font-variant-numeric:tabular-nums}
        header,main,footer{max-width:86rem;margin:0 auto;padding:0 1.25rem}
        header{padding-top:1.6rem;padding-bottom:1.1rem}
        .title{display:flex;gap:.6rem;align-items:baseline;color:var(--quiet)}
        .title b{color:var(--ink);letter-spacing:.02em}
        h1{font-size:1.75rem;line-height:1.2;margin:.35rem 0 .2rem;font-weight:650}
        header.CRITICAL h1{color:var(--bad)}header.WARNING h1{color:var(--warn)}header.OK h1{color:var(--good)}
        h2{font-size:1.1rem;margin:1.9rem 0 .6rem}
        h3{font-size:1rem;font-weight:600;overflow-wrap:anywhere}
        .quiet{color:var(--quiet);font-size:.86rem}
        .card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.8rem 1rem}
        .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.4rem,1fr));gap:.6rem;margin-bottom:.6rem}
        .tile{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.6rem .9rem}
        .tile b{display:block;white-space:nowrap;font-size:1.35rem;line-height:1.2;font-weight:600}
        .tile.CRITICAL b{color:var(--bad)}.tile.WARNING b{color:var(--warn)}.tile.OK b{color:var(--good)}
        .tile.none b{color:var(--none)}
        .plot p{display:flex;justify-content:space-between;gap:.5rem;white-space:nowrap;margin-bottom:.15rem}
        .plot p .value{overflow:hidden;text-overflow:ellipsis}
        .plot svg{display:block;width:100%;height:2rem;border-bottom:1px solid var(--line)}
        .all .plot+.plot{margin-top:.5rem}.tall svg{height:3.6rem}.all .plot:first-child svg{height:1.6rem}
        svg .good,.legend .good{fill:var(--good);background:var(--good)}
        svg .idle,.legend .idle{fill:var(--idle);background:var(--idle)}
        svg .waited,.legend .waited{fill:var(--warn);background:var(--warn)}
        svg .bad,.legend .bad{fill:var(--bad);background:var(--bad)}
        svg .bar{fill:var(--bar)}svg .above{fill:var(--bad)}
        svg .limit{stroke:var(--quiet);stroke-width:1;stroke-dasharray:3 3;fill:none;vector-effect:non-scaling-stroke}
        .axis{display:flex;justify-content:space-between;margin-top:.25rem;white-space:nowrap}
        .legend{margin-bottom:.6rem}.legend i{display:inline-block;width:.7rem;height:.7rem;border-radius:2px;\
        margin:0 .3rem 0 .6rem}.legend i:first-child{margin-left:0}
        .findings{list-style:none;padding:0;display:grid;gap:.5rem}
        .findings li{background:var(--card);border:1px solid var(--line);border-left:.3rem solid var(--none);\
        border-radius:.5rem;padding:.6rem .9rem;display:grid;grid-template-columns:6.2rem 1fr;gap:.8rem;align-items:start}
        .findings li.CRITICAL{border-left-color:var(--bad)}.findings li.WARNING{border-left-color:var(--warn)}
        .findings b{font-weight:600;overflow-wrap:anywhere}.message,.findings p{overflow-wrap:anywhere}
        a{color:inherit;text-decoration-color:var(--none);text-underline-offset:.18em}
        .replica:target{outline:2px solid var(--bar)}
        .advice{color:var(--quiet);font-size:.88rem}.advice::before{content:"→ "}
        .badge{display:inline-block;font-size:.74rem;font-weight:600;padding:.1rem .5rem;border-radius:1rem;\
        text-align:center;background:var(--line);color:var(--quiet);white-space:nowrap}
        .badge.CRITICAL{background:var(--bad-soft);color:var(--bad)}.badge.WARNING{background:var(--warn-soft);color:var(--warn)}
        .badge.OK{background:var(--ok-soft);color:var(--good)}
        .replica{display:grid;grid-template-columns:minmax(12rem,1.5fr) 9.5rem repeat(4,minmax(0,1fr));gap:.4rem 1.3rem;\
        align-items:center;margin-bottom:.5rem;border-left:.3rem solid var(--line)}
        .replica.CRITICAL{border-left-color:var(--bad)}.replica.WARNING{border-left-color:var(--warn)}
        .replica.OK{border-left-color:var(--good)}
        .replica>.message{grid-column:1/-1;font-size:.9rem}
        .who .badge{margin:.2rem .3rem 0 0}
        .age .value{display:block;font-size:1.1rem;line-height:1.25;font-weight:600}
        .gauge{position:relative;height:.55rem;border-radius:.3rem;background:var(--line);margin-top:.35rem;overflow:hidden}
        .gauge i{position:absolute;inset:0 auto 0 0;background:var(--good)}
        .gauge i.WARNING{background:var(--warn)}.gauge i.CRITICAL{background:var(--bad)}
        .gauge b{position:absolute;top:0;bottom:0;width:2px;background:var(--card)}
        footer{padding-top:1.6rem;padding-bottom:2rem}
        @media (max-width:76rem){.replica{grid-template-columns:repeat(4,minmax(0,1fr))}\
        .replica>.who,.replica>.age{grid-column:span 2}}
        @media (max-width:34rem){header,main,footer{padding-left:.8rem;padding-right:.8rem}h1{font-size:1.4rem}\
        .tiles{grid-template-columns:repeat(3,1fr)}.tile{padding:.5rem .6rem}.tile b{font-size:1.15rem}\
        .findings li{grid-template-columns:1fr;gap:.3rem}.findings .badge{justify-self:start}\
        .axis span:nth-child(even){display:none}.replica{grid-template-columns:1fr 1fr}\
        .replica>.who,.replica>.age{grid-column:1/-1}}
        @media print{body{background:#fff}.card,.findings li{break-inside:avoid}}
        """
}
